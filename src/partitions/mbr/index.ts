/** MBR ("dos") partition tables: four primary partitions, logical ones in a chain within an extended one. */
import { formatSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import type { EmptyTableOptions, TableFormat } from "../registry.js";
import type { MbrTable, PartitionTable } from "../table.js";
import { BOOT_SECTOR, BOOT_SECTOR_SIZE, MAX_LBA, UNUSED_ENTRY } from "./layout.js";
import { formatSignature, readMbr } from "./read.js";
import { mbrSteps } from "./write.js";

export const mbr: TableFormat = {
  label: "dos",
  names: ["mbr", "dos", "msdos"],
  title: "master boot record",
  read: readMbr,
  empty: emptyMbr,
  newId: newSignature,
  steps: (before: PartitionTable | null, after: PartitionTable) => mbrSteps(before, after as MbrTable),
};

/** Any signature but 0, which Windows replaces. */
function newSignature(random: (size: number) => Uint8Array): string {
  const bytes = random(4);
  const signature = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0);
  return formatSignature(signature || 1);
}

function emptyMbr({ device, size, sectorSize, id }: EmptyTableOptions): MbrTable {
  const sectors = Math.floor(size / sectorSize);
  if (sectors < 2)
    throw new DiskError(
      "NO_SPACE",
      `Cannot make an MBR on ${device}: it has ${formatSize(size)}, at least two sectors are needed`,
    );
  const entries = { entry1: UNUSED_ENTRY, entry2: UNUSED_ENTRY, entry3: UNUSED_ENTRY, entry4: UNUSED_ENTRY };
  const bootSector = BOOT_SECTOR.encode(
    { diskSignature: Number(id), ...entries, signature: 0xaa55 },
    new Uint8Array(BOOT_SECTOR_SIZE),
  );
  return {
    label: "dos",
    device,
    id,
    sectorSize,
    size,
    firstUsableLba: 1,
    lastUsableLba: Math.min(sectors - 1, MAX_LBA),
    partitions: [],
    problems: [],
    onDisk: { bootSector, chain: [], staleGpt: [] },
  };
}
