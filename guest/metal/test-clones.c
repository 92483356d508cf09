// SPDX-License-Identifier: Apache-2.0
/*
 * A tree of clones that run in turns. A timer interrupts them at any point, they also stop after
 * some faults, and they are forked in the middle of commands. Each writes to pages that it chooses.
 * All clones must find all of their memory right.
 */
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"
#include "guest/metal/tests.h"
#include "guest/metal/vm.h"

#define CLONES 16u
#define PAGE   4096u
#define CHUNK  8u /* pages; a clone writes whole chunks */
#define BYTES  (8u << 20)
#define CHUNKS ((BYTES - GUEST_DATA) / PAGE / CHUNK)
#define STRIDE 512u /* bytes from one word to the next: 8 words in a page */
#define WORDS  (CHUNK * PAGE / STRIDE)
#define SLICE  3000u /* ticks */

struct clone {
	struct vm vm;
	uint16_t key[CHUNKS]; /* the key of each chunk's pattern; no key is used twice */
	bool busy;
};

static struct clone storage[CLONES], *clone[CLONES];
static unsigned n_clones;
static uint16_t last_key;
static uint64_t seed = 1;

static unsigned chance(unsigned n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % n;
}

static uint64_t chunk_at(unsigned c)
{
	return GUEST_DATA + (uint64_t)c * CHUNK * PAGE;
}

static struct done command(struct clone *c, uint32_t what, unsigned first, unsigned n, uint32_t key)
{
	return vm_do(&c->vm, what, chunk_at(first), n * WORDS, STRIDE, key);
}

/* Verifies all memory of all clones. */
static void verify(const char *in)
{
	uint64_t wrong = 0, faults = 0;
	struct mmu_root *roots[CLONES];

	for (unsigned i = 0; i < n_clones; i++) {
		const uint16_t *key = clone[i]->key;

		for (unsigned c = 0, n; c < CHUNKS; c += n) {
			struct done d;

			for (n = 1; c + n < CHUNKS && key[c + n] == key[c];)
				n++;
			d = command(clone[i], GUEST_VERIFY, c, n, key[c]);
			wrong += d.eax;
			faults += d.faults;
		}
		roots[i] = &clone[i]->vm.root;
	}
	print("%s: %u clones\n", in, n_clones);
	check(in, "wrong words", wrong, 0);
	check(in, "faults of readers", faults, 0);
	check(in, "wrong counts", memory_check(roots, n_clones), 0);
}

static void fork_one(struct clone *parent, unsigned share)
{
	struct clone *child = clone[n_clones++];

	vm_fork(&parent->vm, share, &child->vm);
	memcpy(child->key, parent->key, sizeof child->key);
	child->busy = parent->busy;
}

static void end_one(unsigned i)
{
	struct clone *c = clone[i];

	vm_end(&c->vm);
	clone[i] = clone[--n_clones];
	clone[n_clones] = c;
}

static void begin(struct clone *c)
{
	unsigned first = chance(CHUNKS), n = 1 + chance(8);

	if (first + n > CHUNKS)
		n = CHUNKS - first;
	last_key++;
	for (unsigned k = first; k < first + n; k++)
		c->key[k] = last_key;
	vcpu_start(&c->vm.vcpu[0], GUEST_WRITE, chunk_at(first), n * WORDS, STRIDE, last_key);
	c->busy = true;
}

/* All clones write some chunks, in turns. With `fork`, one clone is forked in the middle of its
 * command, and parent and child both finish the command. */
static void write_round(unsigned share, bool fork)
{
	bool busy = true;

	for (unsigned i = 0; i < n_clones; i++)
		begin(clone[i]);
	timer_set(SLICE);
	while (busy) {
		busy = false;
		for (unsigned i = 0; i < n_clones; i++) {
			struct clone *c = clone[i];

			if (!c->busy)
				continue;
			c->vm.vcpu[0].pause = 1 + chance(8);
			c->busy = vcpu_go(&c->vm.vcpu[0]) == VCPU_BUSY;
			busy |= c->busy;
			if (c->busy && fork) {
				fork_one(c, share);
				fork = false;
			}
		}
	}
	timer_set(0);
}

static void tree(const char *in, unsigned share)
{
	uint64_t pages = pages_free(), frames = pool.in_use;
	unsigned running;

	n_clones = 1;
	memset(clone[0]->key, 0, sizeof clone[0]->key);
	vm_new(&clone[0]->vm, BYTES, false, false);
	command(clone[0], GUEST_WRITE, 0, CHUNKS, 0);
	fork_one(clone[0], share);
	verify(in);
	for (unsigned round = 0; round < 40 && n_clones < CLONES; round++)
		write_round(share, true);
	running = n_clones - 2;
	print("%s: %u of %u forked in the middle of a command\n", in, running, CLONES - 2);
	check(in, "forks in the middle of a command", running > 0, 1);
	while (n_clones < CLONES)
		fork_one(clone[chance(n_clones)], share);
	verify(in);
	for (unsigned round = 0; round < 8; round++)
		write_round(share, false);
	verify(in);
	/* The clones end in any order; the others keep running. */
	while (n_clones > 2) {
		end_one(chance(n_clones));
		if (n_clones % 5 == 0) {
			write_round(share, false);
			verify(in);
		}
	}
	verify(in);
	end_one(0);
	end_one(0);
	check(in, "frames in use", pool.in_use, frames);
	check(in, "free pages", pages_free(), pages);
}

void test_clones(void)
{
	for (unsigned i = 0; i < CLONES; i++)
		clone[i] = &storage[i];
	tree("tables copied", MMU_SHARE_NONE);
	tree("PTE tables shared", MMU_SHARE_PTE);
	tree("PD tables shared", MMU_SHARE_PD);
	tree("PDPT tables shared", MMU_SHARE_PDPT);
	tree("root shared", MMU_SHARE_ROOT);
}
