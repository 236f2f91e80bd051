/**
 * The nouns of partitioning: a table and its partitions, in bytes, whatever the disk's format of table is.
 * A table is a value: it is read from a disk, changed by a plan (`plan.ts`), and never changed in place.
 */
import { byteGranular } from "../block/aligned.js";
import type { BlockDevice } from "../block/device.js";
import { slice } from "../block/slice.js";
import { DiskError } from "../errors.js";
import { crossCheck } from "./check.js";
import type { GptOnDisk } from "./gpt/read.js";
import type { MbrOnDisk } from "./mbr/read.js";
import { PARTITION_TABLES } from "./registry.js";
import { openTableView } from "./view.js";

export { MAX_PARTITIONS } from "./check.js";

export type SectorSize = 512 | 4096;
export type PartitionKind = "primary" | "extended" | "logical";

export interface Partition {
  /** Slot, from 1; a slot keeps its number when another one is emptied. MBR: 1-4 primary, logical ones from 5 in the order of their chain. */
  readonly number: number;
  /** Bytes from the start of the disk. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
  /** GPT: a GUID in upper case. MBR: hexadecimal as sfdisk prints it, "83" or "c". */
  readonly type: string;
  /** GPT: the partition's GUID in upper case. MBR: null. */
  readonly uuid: string | null;
  /** GPT: up to 36 UTF-16 units. MBR: empty. */
  readonly name: string;
  /** GPT: all 64 attribute bits, known and unknown. MBR: 0. */
  readonly attributes: bigint;
  /** MBR: the active flag. GPT: attribute bit 2, legacy BIOS bootable. */
  readonly bootable: boolean;
  readonly kind: PartitionKind;
}

/** Something about a table that is not as it should be. `damage` is what `verify` fails on and `repair` mends; a `note` is lawful but worth knowing. */
export interface TableProblem {
  readonly code:
    | "recovered-from-backup"
    | "backup-damaged"
    | "backup-not-at-end"
    | "copies-differ"
    | "protective-mbr"
    | "hybrid-mbr"
    | "stale-gpt"
    | "past-end"
    | "outside-usable"
    | "overlap"
    | "same-guid"
    | "extended"
    | "more-than-fifteen";
  readonly level: "damage" | "note";
  readonly message: string;
}

interface TableCommon {
  /** The disk's label, for messages. */
  readonly device: string;
  /** GPT: disk GUID in upper case. MBR: signature as "0x1234abcd". */
  readonly id: string;
  /** Bytes per logical block: the unit of every address in the table. */
  readonly sectorSize: SectorSize;
  /** Bytes of the disk. */
  readonly size: number;
  /** First and last block that a partition may use. */
  readonly firstUsableLba: number;
  readonly lastUsableLba: number;
  /** By number. */
  readonly partitions: readonly Partition[];
  readonly problems: readonly TableProblem[];
}

export interface GptTable extends TableCommon {
  readonly label: "gpt";
  readonly onDisk: GptOnDisk;
}

export interface MbrTable extends TableCommon {
  readonly label: "dos";
  readonly onDisk: MbrOnDisk;
}

export type PartitionTable = GptTable | MbrTable;

export interface ReadTableOptions {
  /** Only this sector size; default: found from where the GPT header lies, 512 for an MBR. */
  readonly sectorSize?: SectorSize;
}

/**
 * The partition table of a disk, or null when it has none. Reads under 1 MiB, in two reads for most disks.
 * Throws `CORRUPT` when a table is there and cannot be read; one good copy of a GPT suffices and is told in `problems`.
 */
export async function readPartitionTable(
  device: BlockDevice,
  options: ReadTableOptions = {},
): Promise<PartitionTable | null> {
  const view = await openTableView(device);
  for (const format of PARTITION_TABLES) {
    const table = await format.read(view, options);
    if (table) return { ...table, problems: [...table.problems, ...crossCheck(table)] };
  }
  return null;
}

/** The partition with this number. Throws `NOT_FOUND` with the numbers that there are. */
export function findPartition(table: PartitionTable, number: number): Partition {
  const found = table.partitions.find((partition) => partition.number === number);
  if (found) return found;
  const numbers = table.partitions.map((partition) => partition.number);
  const allowed = numbers.length > 0 ? `allowed ${numbers.join(" ")}` : "the table is empty";
  throw new DiskError(
    "NOT_FOUND",
    `Cannot find partition ${number} of ${table.device}: there is none of this number, ${allowed}`,
    {
      details: { number },
    },
  );
}

/** The label of a part as the user names it: `"guest.dsk#p2"`, the quotes around all of it. */
function partLabel(whole: string, part: string): string {
  return whole.endsWith('"') ? `${whole.slice(0, -1)}${part}"` : `${whole}${part}`;
}

/** One partition as a device of its own, labelled `guest.dsk#p2`. Closing it leaves `device` open. */
export function openPartition(device: BlockDevice, table: PartitionTable, number: number): BlockDevice {
  const { offset, size, kind } = findPartition(table, number);
  const label = partLabel(device.label, `#p${number}`);
  if (kind === "extended")
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot open ${label}: it is an extended partition, which only holds the logical ones from 5 on`,
    );
  if (offset > device.size - size) {
    const text = `Cannot open ${label}: it ends at byte ${offset + size}, the disk has ${device.size}`;
    throw new DiskError("CORRUPT", text, { details: { number, offset, size } });
  }
  // A partition need not begin on a block of the device: 512-byte sectors on 4096-byte blocks.
  const aligned = offset % device.blockSize === 0 && size % device.blockSize === 0;
  return slice(aligned ? device : byteGranular(device), offset, size, { label });
}
