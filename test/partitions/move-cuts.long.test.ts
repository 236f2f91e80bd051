/** A move survives a cut at any write and at any step of its journal, forward and back, with overlap and without. */
import { describe, expect, it } from "vitest";
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { planMove } from "#src/partitions/changes/move.js";
import type { MoveJournal, MoveState } from "#src/partitions/move/journal.js";
import { resumeMove, rollBackMove, runMove } from "#src/partitions/move/run.js";
import { findPartition, openPartition, readPartitionTable } from "#src/partitions/table.js";
import { add, type Disk, initialized, MIB } from "./support.js";

class PowerCut extends Error {}

/** Lets so many writes through, tears the next one in the middle, and then fails everything. */
class Power {
  left: number;
  constructor(writes: number) {
    this.left = writes;
  }
  /** How much of `length` still gets through. */
  use(length: number): number {
    if (this.left < 0) throw new PowerCut();
    return this.left-- > 0 ? length : Math.floor(length / 1024) * 512;
  }
  get isOff(): boolean {
    return this.left < 0;
  }
}

function cuttable(bytes: Uint8Array, power: Power): BlockDevice {
  const change = async (offset: number, data: Uint8Array) => {
    bytes.set(data.subarray(0, power.use(data.length)), offset);
    if (power.isOff) throw new PowerCut();
  };
  return defineDevice({
    label: "a.dsk",
    size: bytes.length,
    read: async (offset, into) => void into.set(bytes.subarray(offset, offset + into.length)),
    write: change,
    zero: (offset, length) => change(offset, new Uint8Array(length)),
  });
}

function memoryJournal(power: Power, held: { state: MoveState | null; bytes: Uint8Array }): MoveJournal {
  return {
    path: "journal",
    load: () => held.state,
    save(state) {
      // A document is replaced as a whole or not at all.
      if (power.use(1024) === 1024) held.state = JSON.parse(JSON.stringify(state));
      else throw new PowerCut();
    },
    async saveBytes(bytes) {
      const part = power.use(bytes.length);
      held.bytes = bytes.slice();
      held.bytes.fill(0xee, part);
      if (power.isOff) throw new PowerCut();
    },
    loadBytes: async (length) => held.bytes.slice(0, length),
    remove() {
      if (power.use(1024) !== 1024) throw new PowerCut();
      held.state = null;
    },
  };
}

/** Every sector carries its own number: a sector that is lost, doubled or swapped is seen. */
function fill(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let at = 0; at < bytes.length; at += 512) view.setUint32(at, 0x8000_0000 | (at / 512));
}

async function contents(bytes: Uint8Array, number: number): Promise<{ offset: number; data: Uint8Array }> {
  const device = cuttable(bytes, new Power(Number.POSITIVE_INFINITY));
  const table = (await readPartitionTable(device))!;
  const part = openPartition(device, table, number);
  const data = new Uint8Array(part.size);
  await part.read(0, data);
  return { offset: findPartition(table, number).offset, data };
}

interface Case {
  readonly what: string;
  readonly format: "gpt" | "mbr";
  readonly requests: readonly Parameters<typeof add>[1][];
  readonly number: number;
  readonly to: number;
}

const CASES: readonly Case[] = [
  {
    what: "gpt, to the left with overlap",
    format: "gpt",
    requests: [{ start: 10 * MIB, size: 11 * MIB }],
    number: 1,
    to: 5 * MIB,
  },
  {
    what: "gpt, to the right with overlap",
    format: "gpt",
    requests: [{ start: MIB, size: 11 * MIB }],
    number: 1,
    to: 6 * MIB,
  },
  {
    what: "gpt, by one sector to the left",
    format: "gpt",
    requests: [{ start: MIB, size: 20 * MIB }],
    number: 1,
    to: MIB - 512,
  },
  {
    what: "gpt, by one sector to the right",
    format: "gpt",
    requests: [{ start: MIB, size: 20 * MIB }],
    number: 1,
    to: MIB + 512,
  },
  {
    what: "gpt, without overlap",
    format: "gpt",
    requests: [{ start: MIB, size: 5 * MIB }, { size: MIB }],
    number: 1,
    to: 20 * MIB,
  },
  {
    what: "mbr primary",
    format: "mbr",
    requests: [{ start: 5 * MIB, size: 9 * MIB, bootable: true }],
    number: 1,
    to: MIB,
  },
  {
    what: "mbr logical over its own EBR",
    format: "mbr",
    requests: [
      { size: 2 * MIB, logical: true },
      { start: 12 * MIB, size: 5 * MIB, logical: true },
    ],
    number: 6,
    to: 8 * MIB,
  },
  {
    what: "mbr first logical to the right",
    format: "mbr",
    requests: [{ size: 2 * MIB, logical: true }],
    number: 5,
    to: 3 * MIB,
  },
  {
    what: "mbr logical to the right",
    format: "mbr",
    requests: [
      { size: MIB, logical: true },
      { size: 6 * MIB, logical: true },
      { start: 25 * MIB, size: MIB, logical: true },
    ],
    number: 6,
    to: 9 * MIB,
  },
];

async function prepare({
  format,
  requests,
  number,
}: Case): Promise<{ made: Disk; wanted: Uint8Array; others: Map<number, Uint8Array> }> {
  const made = await initialized(32 * MIB, format);
  for (const request of requests) await add(made, request);
  const table = await made.table();
  for (const { offset, size, kind } of table.partitions)
    if (kind !== "extended") fill(made.bytes.subarray(offset, offset + size));
  const others = new Map<number, Uint8Array>();
  for (const other of table.partitions)
    if (other.number !== number && other.kind !== "extended")
      others.set(other.number, (await contents(made.bytes, other.number)).data);
  return { made, wanted: (await contents(made.bytes, number)).data, others };
}

const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

/** Runs until the power goes; returns whether it got through. */
async function until(run: () => Promise<void>): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    if (error instanceof PowerCut) return false;
    throw error;
  }
}

describe("a move that is cut", () => {
  it.each(CASES)("$what", async (example) => {
    const { made, wanted, others } = await prepare(example);
    const from = findPartition(await made.table(), example.number).offset;
    let cuts = 0;
    for (let writes = 0; ; writes++) {
      const bytes = made.bytes.slice();
      const held = { state: null as MoveState | null, bytes: new Uint8Array() };
      const finished = await attempt(bytes, held, writes, async (device, journal, read) =>
        runMove(device, planMove((await read())!, example.number, example.to), read, journal),
      );
      if (finished) {
        await expectMoved(bytes, example, wanted, others, example.to);
        break;
      }
      cuts++;
      // Go on after a first, a second and a third cut; the other half of the cuts goes back.
      const back = writes % 2 === 1;
      await recover(bytes, held, back, [0, 3, 8, Number.POSITIVE_INFINITY]);
      expect(held.state).toBeNull();
      const { offset, data } = await contents(bytes, example.number);
      expect(same(data, wanted), `bytes after a cut at write ${writes}`).toBe(true);
      expect([from, example.to]).toContain(offset);
      for (const [number, kept] of others) expect(same((await contents(bytes, number)).data, kept)).toBe(true);
    }
    expect(cuts).toBeGreaterThan(5);
  });

  it("changes its mind: rolls back a resumed move, and resumes a rolled back one", async () => {
    for (const example of CASES.slice(0, 4)) {
      const { made, wanted, others } = await prepare(example);
      for (const first of [2, 5, 9]) {
        const bytes = made.bytes.slice();
        const held = { state: null as MoveState | null, bytes: new Uint8Array() };
        await attempt(bytes, held, first, async (device, journal, read) =>
          runMove(device, planMove((await read())!, example.number, example.to), read, journal),
        );
        for (const turn of [1, 2, 3, 4]) {
          if (!held.state) break;
          await attempt(bytes, held, turn, (device, journal, read) =>
            (turn % 2 ? rollBackMove : resumeMove)(device, held.state!, read, journal),
          );
        }
        await recover(bytes, held, false, [Number.POSITIVE_INFINITY]);
        const { data } = await contents(bytes, example.number);
        expect(same(data, wanted)).toBe(true);
        for (const [number, kept] of others) expect(same((await contents(bytes, number)).data, kept)).toBe(true);
      }
    }
  });
});

type Read = () => Promise<NonNullable<Awaited<ReturnType<typeof readPartitionTable>>>>;

function attempt(
  bytes: Uint8Array,
  held: { state: MoveState | null; bytes: Uint8Array },
  writes: number,
  run: (device: BlockDevice, journal: MoveJournal, read: Read) => Promise<void>,
): Promise<boolean> {
  const power = new Power(writes);
  const device = cuttable(bytes, power);
  return until(() => run(device, memoryJournal(power, held), async () => (await readPartitionTable(device))!));
}

async function recover(
  bytes: Uint8Array,
  held: { state: MoveState | null; bytes: Uint8Array },
  back: boolean,
  cuts: readonly number[],
): Promise<void> {
  for (const writes of cuts) {
    if (!held.state) return;
    await attempt(bytes, held, writes, (device, journal, read) =>
      (back ? rollBackMove : resumeMove)(device, held.state!, read, journal),
    );
  }
}

async function expectMoved(
  bytes: Uint8Array,
  { number, to }: Case,
  wanted: Uint8Array,
  others: Map<number, Uint8Array>,
  at: number,
): Promise<void> {
  const { offset, data } = await contents(bytes, number);
  expect(offset).toBe(at);
  expect(to).toBe(at);
  expect(same(data, wanted)).toBe(true);
  for (const [other, kept] of others) expect(same((await contents(bytes, other)).data, kept)).toBe(true);
}

it("moves between sectors of a device with larger blocks", async () => {
  const example = {
    what: "",
    format: "gpt",
    requests: [{ start: MIB, size: 12 * MIB }],
    number: 1,
    to: MIB + 512,
  } as const;
  const { made, wanted } = await prepare(example);
  const device = memoryDevice(made.bytes, { label: "a.dsk", blockSize: 4096 });
  const held = { state: null as MoveState | null, bytes: new Uint8Array() };
  const journal = memoryJournal(new Power(Number.POSITIVE_INFINITY), held);
  for (const to of [MIB + 512, 18 * MIB + 1024, 8 * MIB + 512]) {
    const read = async () => (await readPartitionTable(device))!;
    await runMove(device, planMove(await read(), 1, to), read, journal);
    const moved = await contents(made.bytes, 1);
    expect(moved.offset).toBe(to);
    expect(same(moved.data, wanted)).toBe(true);
  }
});

describe("where a partition may be moved", () => {
  it("refuses a place that is used, outside, or between two sectors", async () => {
    const made = await initialized(32 * MIB, "gpt");
    await add(made, { size: 4 * MIB });
    await add(made, { size: 4 * MIB });
    const table = await made.table();
    expect(() => planMove(table, 1, 3 * MIB)).toThrow(/overlap|used/);
    expect(() => planMove(table, 1, 30 * MIB)).toThrow(/free/);
    expect(() => planMove(table, 1, 64 * MIB)).toThrow(/used or outside/);
    expect(() => planMove(table, 1, MIB + 1)).toThrow(/no multiple/);
    expect(() => planMove(table, 3, MIB)).toThrow(/allowed 1 2/);
    expect(planMove(table, 2, { by: MIB }).to).toBe(6 * MIB);
  });
});
