/** A disk in memory that remembers its writes and flushes, and every state in which a power cut could leave it. */
import { createHash } from "node:crypto";
import { type BlockDevice, defineDevice } from "#src/block/device.js";

const SECTOR = 512;

type Event = { readonly offset: number; readonly data: Uint8Array } | "flush";

export interface RecordedDisk {
  readonly device: BlockDevice;
  /** Ends the recording: later writes belong to nobody. Each state once, a copy. */
  states(): Generator<Uint8Array>;
}

/** `before` is left as it is. */
export function recordedDisk(before: Uint8Array, label: string): RecordedDisk {
  const now = Uint8Array.from(before);
  const events: Event[] = [];
  const device = defineDevice({
    label,
    size: now.length,
    read: async (offset, into) => into.set(now.subarray(offset, offset + into.length)),
    async write(offset, data) {
      now.set(data, offset);
      events.push({ offset, data: Uint8Array.from(data) });
    },
    async flush() {
      events.push("flush");
    },
  });
  return {
    device,
    *states() {
      const seen = new Set<string>();
      for (const state of everyState()) {
        const digest = createHash("sha1").update(state).digest("base64");
        if (!seen.has(digest)) yield state;
        seen.add(digest);
      }
    },
  };

  function* everyState(): Generator<Uint8Array> {
    const durable = Uint8Array.from(before);
    let pending: Exclude<Event, "flush">[] = [];
    for (const event of [...events]) {
      if (event === "flush") {
        for (const write of pending) durable.set(write.data, write.offset);
        pending = [];
        continue;
      }
      pending.push(event);
      yield* subsets(durable, pending);
    }
    yield* subsets(durable, pending);
  }
}

/** Nothing, everything, everything but one, one alone, and the last one cut between its sectors or without its first. */
function* subsets(
  durable: Uint8Array,
  pending: readonly { offset: number; data: Uint8Array }[],
): Generator<Uint8Array> {
  const applied = (writes: readonly { offset: number; data: Uint8Array }[]) => {
    const state = Uint8Array.from(durable);
    for (const { offset, data } of writes) state.set(data, offset);
    return state;
  };
  yield applied([]);
  yield applied(pending);
  const last = pending.at(-1);
  if (!last) return;
  const others = pending.slice(0, -1);
  if (others.length > 0) {
    yield applied([last]);
    for (const missing of others) yield applied(pending.filter((write) => write !== missing));
  }
  const cuts = Math.min(8, last.data.length / SECTOR - 1);
  for (let sectors = 1; sectors <= cuts; sectors++) {
    const at = sectors * SECTOR;
    yield applied([...others, { offset: last.offset, data: last.data.subarray(0, at) }]);
    yield applied([...others, { offset: last.offset + at, data: last.data.subarray(at) }]);
  }
}
