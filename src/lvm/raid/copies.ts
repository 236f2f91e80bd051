/**
 * RAID 1, RAID 10 with near copies, and mirrors: each chunk lies on some legs, byte for byte. RAID 1 is one chunk with a copy on each
 * leg. Linux drivers/md/raid10.c, __raid10_find_phys.
 *
 *   raid10 of 4 legs, 2 copies:   leg 0: 0 2 4 …   leg 1: 0 2 4 …   leg 2: 1 3 5 …   leg 3: 1 3 5 …
 */
import { DiskError } from "../../errors.js";
import type { LegIo, LegLayout } from "./leg-io.js";

export interface CopiesOptions {
  readonly label: string;
  /** Bytes of the volume. */
  readonly size: number;
  /** Bytes; RAID 1: `size`. */
  readonly chunk: number;
  readonly copies: number;
}

interface Run {
  readonly length: number;
  /** By preference for reading. */
  readonly places: readonly { readonly leg: number; readonly offset: number }[];
}

/** Bytes compared at a time. */
const PIECE = 1 << 20;

export function layCopies(io: LegIo, { label, size, chunk, copies }: CopiesOptions): LegLayout {
  const runAt = (offset: number, length: number): Run => {
    const number = Math.floor(offset / chunk);
    const within = offset % chunk;
    const places = Array.from({ length: copies }, (_, copy) => {
      const slot = number * copies + copy;
      return { leg: slot % io.count, offset: Math.floor(slot / io.count) * chunk + within };
    });
    places.sort((a, b) => Number(io.isSlow(a.leg)) - Number(io.isSlow(b.leg)));
    return { length: Math.min(length, chunk - within), places };
  };

  /** Fills `into` from the first leg that can, which it gives, and heals those before it that could not. */
  const readRun = async ({ places }: Run, into: Uint8Array): Promise<number> => {
    const unreadable: (typeof places)[number][] = [];
    for (const place of places) {
      if (!io.isCurrent(place.leg)) continue;
      if (await io.read(place.leg, place.offset, into)) {
        for (const broken of unreadable) await io.heal(broken.leg, broken.offset, into);
        return place.leg;
      }
      unreadable.push(place);
    }
    throw new DiskError("IO", `Cannot read ${label}: no leg that is left has the bytes`);
  };

  const eachRun = async (offset: number, length: number, work: (run: Run, at: number) => Promise<void>) => {
    for (let done = 0; done < length; ) {
      const run = runAt(offset + done, length - done);
      await work(run, done);
      done += run.length;
    }
  };

  const onAll = ({ places }: Run, work: (leg: number, offset: number) => Promise<void>) =>
    settled(places.flatMap(({ leg, offset }) => (io.takesWrites(leg) ? [work(leg, offset)] : [])));

  return {
    syncSize: size,
    syncRange: (offset, length) => ({ offset, length }),
    legRange(offset, length) {
      const row = (chunk * io.count) / copies; // bytes of the volume that the legs hold side by side
      const start = Math.floor(offset / row) * chunk;
      if (row === chunk) return { offset, length };
      return { offset: start, length: Math.ceil((offset + length) / row) * chunk - start };
    },
    isComplete: (present) => groupsOf(io.count, copies).every((group) => group.some((leg) => present[leg])),
    async read(offset, into, locked) {
      for (let done = 0; done < into.length; ) {
        const run = runAt(offset + done, into.length - done);
        const part = into.subarray(done, done + run.length);
        const first = run.places.find(({ leg }) => io.isCurrent(leg));
        if (locked) await readRun(run, part);
        else if (!first || !(await io.read(first.leg, first.offset, part))) return false;
        done += run.length;
      }
      return true;
    },
    write: (offset, data) =>
      eachRun(offset, data.length, (run, at) => {
        const part = data.subarray(at, at + run.length);
        return onAll(run, (leg, start) => io.write(leg, start, part));
      }),
    zero: (offset, length) =>
      eachRun(offset, length, (run) => onAll(run, (leg, start) => io.zero(leg, start, run.length))),
    async recover(offset, length, repair) {
      let different = 0;
      const [source, other] = [new Uint8Array(Math.min(length, PIECE)), new Uint8Array(Math.min(length, PIECE))];
      for (let done = 0; done < length; ) {
        const run = runAt(offset + done, Math.min(length - done, PIECE));
        done += run.length;
        const from = await readRun(run, source.subarray(0, run.length));
        let same = true;
        for (const place of run.places) {
          if (place.leg === from || !io.takesWrites(place.leg)) continue;
          const [wanted, found] = [source.subarray(0, run.length), other.subarray(0, run.length)];
          if ((await io.read(place.leg, place.offset, found)) && Buffer.compare(wanted, found) === 0) continue;
          same = false;
          if (repair) await io.write(place.leg, place.offset, wanted);
        }
        if (!same) different += run.length;
      }
      return different;
    },
    async run(offset, length) {
      const run = runAt(offset, length);
      const place = run.places.find(({ leg }) => io.isCurrent(leg));
      return place ? io.zeroRun(place.leg, place.offset, run.length) : { zero: false, length: run.length };
    },
  };
}

/** Legs that hold the same chunks. */
function groupsOf(legs: number, copies: number): number[][] {
  const groups = new Map<string, number[]>();
  for (let number = 0; number < legs; number++) {
    const group = Array.from({ length: copies }, (_, copy) => (number * copies + copy) % legs);
    groups.set(group.join(), group);
  }
  return [...groups.values()];
}

/** Waits for all, also when one fails: nothing of a write is under way when it is answered. */
export async function settled(work: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === "rejected") throw result.reason;
}
