// SPDX-License-Identifier: Apache-2.0
#include "guest/metal/vm.h"

#include "guest/metal/cpu.h"
#include "guest/metal/lib.h"
#include "guest/metal/memory.h"

extern char guest_start[], guest_end[];

/* Entries of the guest's page tables: present, writable, user; a leaf is also large. */
#define PAGE_TABLE 0x07u
#define PAGE_LEAF  0x87u

static const struct mmu_attr all = { .r = true, .w = true, .x = true, .memory_type = 6 };
static uint32_t last_id;

static struct vcpu *vcpu_new(struct vm *vm, bool paged, bool log)
{
	struct vcpu *v = &vm->vcpu[vm->vcpus++];

	/* IF is set because bochs delivers no interrupt to a guest with IF clear, not even one that
	 * should make it exit. */
	*v = (struct vcpu){ .rip = GUEST_CODE,
		.rflags = 0x202,
		.vm = vm,
		.id = ++last_id,
		.paged = paged,
		.log = log,
		.page = page_new() };
	/* The processor may have cached translations of an earlier root with the same top table. */
	v->flush = true;
	if (!v->page)
		fatal("no page for a vCPU");
	return v;
}

/* Fills the memory of a new guest: its code, and page tables in case it uses them. */
static void fill(char *memory)
{
	uint64_t *pml4 = (uint64_t *)(memory + GUEST_PML4);
	uint64_t *pdpt = (uint64_t *)(memory + GUEST_PDPT);
	uint64_t *pd = (uint64_t *)(memory + GUEST_PD);

	memcpy(memory + GUEST_CODE, guest_start, (size_t)(guest_end - guest_start));
	memset(pml4, 0, MMU_PAGE_SIZE);
	memset(pdpt, 0, MMU_PAGE_SIZE);
	pml4[0] = GUEST_PDPT | PAGE_TABLE;
	pdpt[0] = GUEST_PD | PAGE_TABLE;
	pdpt[GUEST_WINDOW >> 30] = (GUEST_PD + MMU_PAGE_SIZE) | PAGE_TABLE;
	for (uint64_t i = 0; i < 512; i++) {
		pd[i] = i * MMU_SPAN_SIZE | PAGE_LEAF;
		pd[512 + i] = (GUEST_WINDOW_AT + i * MMU_SPAN_SIZE) | PAGE_LEAF;
	}
}

static void new_memory(struct vm *vm, uint64_t bytes, unsigned level)
{
	struct mmu_attr attr = all;
	uint64_t first = 0, frame;

	attr.level = (uint8_t)level;

	*vm = (struct vm){ .pages = bytes / MMU_PAGE_SIZE };
	if (mmu_root_init(&mmu, &vm->root))
		fatal("no memory for a root");
	for (uint64_t at = 0; at < bytes; at += MMU_SPAN_SIZE) {
		if (frames_new(MMU_SLOTS, &frame) ||
			mmu_map(&mmu, &vm->root, gpa(at), MMU_SLOTS, frame, attr))
			fatal("no memory for a guest of %lu MiB", bytes >> 20);
		if (!at)
			first = frame;
	}
	fill(frame_pointer(first));
}

void vm_new(struct vm *vm, uint64_t bytes, bool paged, bool log)
{
	new_memory(vm, bytes, 1);
	vcpu_new(vm, paged, log);
}

void vm_new_large(struct vm *vm, uint64_t bytes, bool log)
{
	new_memory(vm, bytes, 2);
	vcpu_new(vm, false, log);
}

struct vcpu *vm_add_vcpu(struct vm *vm)
{
	return vcpu_new(vm, vm->vcpu[0].paged, vm->vcpu[0].log);
}

void vm_fork(struct vm *parent, unsigned share, struct vm *child)
{
	struct vcpu *from = &parent->vcpu[0], *to;

	*child = (struct vm){ .pages = parent->pages };
	if (mmu_fork(&mmu, &parent->root, share, &child->root))
		fatal("no memory for a fork");
	to = vcpu_new(child, from->paged, from->log);
	memcpy(to->gpr, from->gpr, sizeof to->gpr);
	to->rip = from->rip;
	to->rflags = from->rflags;
}

void vm_end(struct vm *vm)
{
	mmu_root_put(&mmu, &vm->root);
	while (vm->vcpus)
		page_put(vm->vcpu[--vm->vcpus].page);
}

uint32_t vm_peek(struct vm *vm, uint64_t at)
{
	struct mmu_attr attr;
	uint64_t frame;

	memory_lock();
	if (mmu_translate(&mmu, &vm->root, gpa(at), &frame, &attr))
		fatal("nothing is mapped at %lx", at);
	memory_unlock();
	return *(volatile uint32_t *)((char *)frame_pointer(frame) + at % MMU_PAGE_SIZE);
}

void vcpu_start(
	struct vcpu *v, uint32_t command, uint64_t at, uint64_t n, uint64_t step, uint32_t key)
{
	uint64_t *r = v->gpr;

	r[RAX] = command;
	r[RSI] = at;
	r[RDI] = at;
	r[RCX] = n;
	r[RDX] = step;
	r[RBX] = key;
	v->rip = GUEST_CODE + 1; /* after its hlt */
}

void vcpu_try(struct vcpu *v, struct exit *e)
{
	atomic_store(&v->inside, cpu_number() + 1);
	hv->run(v, mmu_root_phys(&v->vm->root), e);
	atomic_fetch_add(&v->exits, 1);
	atomic_store(&v->inside, 0);
}

/* Handles a fault. False: the access is not allowed. */
static bool resolve(struct vcpu *v, const struct exit *e)
{
	enum mmu_access access = e->x ? MMU_EXECUTE : e->w ? MMU_WRITE : MMU_READ;

	int r;

	v->vm->faults++;
	memory_lock();
	r = mmu_fault(&mmu, &v->vm->root, gpa(e->at.v & ~(MMU_PAGE_SIZE - 1)), access, NULL);
	memory_unlock();
	if (r == MMU_NO_MEMORY)
		fatal("no memory to break what is at %lx", e->at.v);
	return !r;
}

enum vcpu_state vcpu_go(struct vcpu *v)
{
	struct exit e;

	for (;;) {
		vcpu_try(v, &e);
		if (e.kind == EXIT_HALT || e.kind == EXIT_KICK)
			return e.kind == EXIT_HALT ? VCPU_DONE : VCPU_BUSY;
		if (e.kind != EXIT_FAULT)
			fatal("guest exit %lx, %lx at %lx, rip %lx", e.why, e.info, e.at.v, v->rip);
		if (!resolve(v, &e))
			return VCPU_STUCK;
		if (v->pause && !--v->pause)
			return VCPU_BUSY;
	}
}

struct done vm_do(
	struct vm *vm, uint32_t command, uint64_t at, uint64_t n, uint64_t step, uint32_t key)
{
	struct vcpu *v = &vm->vcpu[0];
	uint64_t before = vm->faults;
	enum vcpu_state state;

	vcpu_start(v, command, at, n, step, key);
	while ((state = vcpu_go(v)) == VCPU_BUSY)
		;
	if (state == VCPU_STUCK)
		fatal("a guest may not do its command %u at %lx", command, at);
	return (struct done){ vm->faults - before, (uint32_t)v->gpr[RAX], (uint32_t)v->gpr[RDI] };
}
