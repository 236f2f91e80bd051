/** Small disks and repeatable "random" numbers for tests of partition tables. */
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { planAdd } from "#src/partitions/changes/add.js";
import { planInit } from "#src/partitions/changes/init.js";
import { type PartitionTable, readPartitionTable, type SectorSize } from "#src/partitions/table.js";
import { writePlan } from "#src/partitions/write.js";

export const MIB = 1 << 20;

/** Bytes that look random and are the same in every run. */
export function seededRandom(seed = 1): (size: number) => Uint8Array {
  let state = seed >>> 0;
  return (size) =>
    Uint8Array.from({ length: size }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state >>> 24;
    });
}

export interface Disk {
  readonly bytes: Uint8Array;
  readonly device: BlockDevice;
  readonly random: (size: number) => Uint8Array;
  /** Throws when there is no table. */
  table(): Promise<PartitionTable>;
}

export function disk(contents: number | Uint8Array, label = "a.dsk"): Disk {
  const bytes = typeof contents === "number" ? new Uint8Array(contents) : contents;
  const device = memoryDevice(bytes, { label });
  return {
    bytes,
    device,
    random: seededRandom(),
    async table() {
      const table = await readPartitionTable(device);
      if (!table) throw new Error("the disk has no partition table");
      return table;
    },
  };
}

export async function initialized(size: number, format: "gpt" | "mbr", sectorSize: SectorSize = 512): Promise<Disk> {
  const made = disk(size);
  await writePlan(made.device, planInit(made.device, null, { format, sectorSize }, made.random));
  return made;
}

export async function add(target: Disk, request: Parameters<typeof planAdd>[1]): Promise<void> {
  await writePlan(target.device, planAdd(await target.table(), request, target.random));
}

/** Holes everywhere but where something was written, so that disks of any size fit into memory; counts what is read. */
export function sparseDevice(
  size: number,
  label = "big.dsk",
): BlockDevice & { readonly counts: { reads: number; bytes: number } } {
  const BLOCK = 4096;
  const blocks = new Map<number, Uint8Array>();
  const counts = { reads: 0, bytes: 0 };
  const walk = (
    offset: number,
    length: number,
    visit: (block: number, from: number, at: number, part: number) => void,
  ) => {
    for (let done = 0; done < length; ) {
      const block = Math.floor((offset + done) / BLOCK);
      const from = (offset + done) % BLOCK;
      const part = Math.min(BLOCK - from, length - done);
      visit(block, from, done, part);
      done += part;
    }
  };
  const device = defineDevice({
    label,
    size,
    async read(offset, into) {
      counts.reads++;
      counts.bytes += into.length;
      walk(offset, into.length, (block, from, at, part) => {
        const held = blocks.get(block);
        if (held) into.set(held.subarray(from, from + part), at);
        else into.fill(0, at, at + part);
      });
    },
    async write(offset, data) {
      walk(offset, data.length, (block, from, at, part) => {
        const held = blocks.get(block) ?? new Uint8Array(BLOCK);
        held.set(data.subarray(at, at + part), from);
        blocks.set(block, held);
      });
    },
  });
  return Object.assign(device, { counts });
}

/** What two tables must have in common to be the same to a user. */
export function meaning(table: PartitionTable | null): unknown {
  if (!table) return null;
  const { label, id, sectorSize, firstUsableLba, lastUsableLba, partitions } = table;
  return { label, id, sectorSize, firstUsableLba, lastUsableLba, partitions };
}
