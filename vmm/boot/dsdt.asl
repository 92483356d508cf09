/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's description for ACPI (ACPI 6.4). It is hardware-reduced, so there are no fixed
 * events, no PM timer and no PIC. The numbers are those of vmm/base/board.h.
 */
DefinitionBlock ("", "DSDT", 2, "RAMET", "RAMET", 1)
{
	/* The sleep type to write to the sleep control register (FADT). */
	Name (\_S5, Package () { 5, 0, 0, 0 })

	Scope (\_SB)
	{
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A03"))
			Name (_UID, 0)
			Name (_BBN, 0)
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0, 0, 0, 0, 1)
				IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite,
					0, 0xC0000000, 0xC0FFFFFF, 0, 0x01000000)
			})
		}

		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x03F8, 0x03F8, 1, 8)
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 4 }
			})
		}

		/* The doorbell's register RESEED: a write promises to reseed after each birth
		 * (ramet/abi.h). */
		OperationRegion (BELL, SystemIO, 0x0600, 0x60)
		Field (BELL, DWordAcc, NoLock, Preserve)
		{
			Offset (0x1C),
			SEED, 32
		}

		/* "Virtual Machine Generation ID", Microsoft 2012; Linux finds it by this _CID. */
		Device (VGEN)
		{
			Name (_HID, "RAMT0001")
			Name (_CID, "VM_Gen_Counter")
			Name (_DDN, "VM_Gen_Counter")
			/* Only a driver calls this, so the guest can reseed. */
			Method (ADDR, 0, Serialized)
			{
				SEED = 1
				Return (Package () { 0x000F0000, 0 })
			}
		}

		/* The only event: this VM has a new generation id. */
		Device (GED)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 9 }
			})
			/* SEED must come first. A clone that is born between the two statements still
			 * executes its parent's Notify, and must also handle its own event. */
			Method (_EVT, 1, Serialized)
			{
				SEED = 1
				Notify (\_SB.VGEN, 0x80)
			}
		}
	}
}
