/** An origin that is written: its snapshots keep what they had. While one is merged into it, its chunks are the origin's already. */
import { type BlockDevice, defineDevice } from "../../../block/device.js";
import { inChunks } from "./chunk-runs.js";
import type { Member, SnapshotMembers } from "./members.js";

export function originView(shared: SnapshotMembers, label: string, close: () => Promise<void>): BlockDevice {
  const { origin, merging } = shared;
  const change = async (
    offset: number,
    length: number,
    run: (device: BlockDevice, at: number, part: number, done: number) => Promise<void>,
  ) => {
    const write = async (at: number, part: number) => {
      await shared.preserve(at, part);
      await run(origin, at, part, at - offset);
    };
    if (!merging) return write(offset, length);
    for (const { at, part } of withinSnapshot(merging, offset, length)) await changeMerging(merging, at, part, write);
    const behind = Math.max(offset, merging.size);
    if (behind < offset + length) await write(behind, offset + length - behind);

    async function changeMerging(member: Member, at: number, part: number, elsewhere: typeof write) {
      const { store, lock } = member;
      const first = Math.floor(at / store.chunkSize);
      const end = Math.ceil((at + part) / store.chunkSize);
      await lock.run(first, end - first, async () => {
        for (const piece of inChunks(store, at, part))
          if (piece.place === null) await elsewhere(piece.at, piece.length);
          else await run(store.cow, piece.place, piece.length, piece.at - offset);
      });
    }
  };
  return defineDevice({
    label,
    size: origin.size,
    writable: origin.writable,
    async read(offset, into) {
      if (!merging) return origin.read(offset, into);
      const inside = Math.min(into.length, Math.max(0, merging.size - offset));
      for (const { at, length, place } of inChunks(merging.store, offset, inside)) {
        const part = into.subarray(at - offset, at - offset + length);
        await (place === null ? origin.read(at, part) : merging.store.cow.read(place, part));
      }
      if (inside < into.length) await origin.read(offset + inside, into.subarray(inside));
    },
    write: (offset, data) =>
      change(offset, data.length, (device, at, part, done) => device.write(at, data.subarray(done, done + part))),
    zero: (offset, length) => change(offset, length, (device, at, part) => device.zero(at, part)),
    discard: (offset, length) => change(offset, length, (device, at, part) => device.discard(at, part)),
    async *extents(offset, length) {
      if (!merging) yield* origin.extents(offset, length);
      else yield { offset, length, data: true, zero: false, present: true, depth: 0, hostOffset: null };
    },
    async flush() {
      await Promise.all([origin.flush(), merging?.store.cow.flush()]);
    },
    close,
  });
}

function withinSnapshot({ size }: Member, offset: number, length: number): { at: number; part: number }[] {
  return offset < size ? [{ at: offset, part: Math.min(length, size - offset) }] : [];
}
