/**
 * Cuts of the power: every prefix of the writes to the file, and the first half of each write. After each the image opens, a check
 * finds at most leaks, and every flushed byte is there. Snapshots mark the image dirty meanwhile: it is mended when it is opened.
 */
import { describe, expect, test } from "vitest";
import { parseOptions } from "#src/formats/options.js";
import { qcow2 } from "#src/formats/qcow2/index.js";
import { openDevice, type Qcow2Device } from "#src/formats/qcow2/open-device.js";
import { randomNumbers } from "../../interop/qcow2-support.js";
import {
  cutStates,
  type FileChange,
  imageBytes,
  memoryFile,
  openContext,
  recordChanges,
} from "../../support/images.js";

const SIZE = 192 * 1024;

/** What one byte range got, and how many changes of the file there were when it was asked for. */
interface Step {
  readonly since: number;
  readonly at: number;
  readonly length: number;
  readonly value: number;
}

const values = (o: string) =>
  parseOptions(
    "qcow2",
    qcow2.options,
    new Map(
      o
        .split(",")
        .filter(Boolean)
        .map((pair) => pair.split("=") as [string, string]),
    ),
  );

const noRepair = { repair: "none", dryRun: false } as const;
const check = (bytes: Uint8Array) => qcow2.check(memoryFile(bytes, { writable: false }), openContext(), noRepair);

/** A flush that the guest saw end: the steps before it, and the changes of the file by then. */
interface Flush {
  readonly steps: number;
  readonly changes: number;
}

/** What a reader may find: the bytes of the last flush, or those of any step since then. */
function expectAllowed(found: Uint8Array, steps: readonly Step[], flushes: readonly Flush[], until: number): void {
  const flushed = flushes.findLast(({ changes }) => changes <= until)?.steps ?? 0;
  const sure = Buffer.alloc(SIZE);
  for (const { at, length, value } of steps.slice(0, flushed)) sure.fill(value, at, at + length);
  const later = steps.slice(flushed).filter(({ since }) => since <= until);
  for (let i = 0; i < SIZE; i++) {
    if (found[i] === sure[i]) continue;
    if (!later.some(({ at, length, value }) => i >= at && i < at + length && value === found[i]))
      expect.fail(`after change ${until}: byte ${i} is ${found[i]}, flushed ${sure[i]}`);
  }
}

async function read(device: { read(offset: number, into: Uint8Array): Promise<void> }): Promise<Uint8Array> {
  const bytes = new Uint8Array(SIZE);
  await device.read(0, bytes);
  return bytes;
}

async function opened(bytes: Uint8Array) {
  const file = memoryFile(bytes);
  return { device: await openDevice(file, openContext()), file };
}

/** Random writes, zeros and flushes; each step is done before the next. */
async function work(device: Qcow2Device, changes: readonly FileChange[], seed: number, count: number) {
  const next = randomNumbers(seed);
  const steps: Step[] = [];
  const flushes: Flush[] = [];
  for (let i = 0; i < count; i++) {
    const length = 1 + next([300, 3000, 30_000][next(3)]!);
    const at = next(SIZE - length);
    const value = next(4) === 0 ? 0 : 1 + next(255);
    steps.push({ since: changes.length, at, length, value });
    if (value === 0) await device.zero(at, length);
    else await device.write(at, new Uint8Array(length).fill(value));
    if (next(5) > 0) continue;
    await device.flush();
    flushes.push({ steps: steps.length, changes: changes.length });
  }
  return { steps, flushes };
}

/** Each as after `-o`; `count` random steps. */
export function describeCuts(options: readonly string[], count: number): void {
  describe.each(options)("qcow2 -o %s, cut at every write", (o) => {
    test("writes, zeros, growth of the tables", async () => {
      const before = (await imageBytes(qcow2, SIZE, { values: values(o) })).slice();
      const recorded = recordChanges(memoryFile(before));
      const device = await openDevice(recorded, openContext());
      const { steps, flushes } = await work(device, recorded.changes, 1, count);
      await device.close();
      for await (const { after, bytes } of cutStates(before, recorded.changes)) {
        const where = `after change ${after} of ${recorded.changes.length}`;
        expect({ where, ...(await check(bytes)) }).toMatchObject({ where, corruptions: 0, checkErrors: 0 });
        const { device: again } = await opened(bytes);
        expectAllowed(await read(again), steps, flushes, after);
        await again.close();
      }
    });

    test("snapshots", async () => {
      const file = memoryFile(await imageBytes(qcow2, SIZE, { values: values(o) }));
      const first = await openDevice(file, openContext());
      await work(first, [], 2, count / 2);
      await first.close();
      const before = file.bytes().slice();
      const state = await read(await openDevice(memoryFile(before, { writable: false }), openContext()));

      const recorded = recordChanges(memoryFile(before));
      const device = await openDevice(recorded, openContext());
      await device.createSnapshot("one");
      const created = recorded.changes.length;
      await device.write(1000, new Uint8Array(5000).fill(77));
      await device.flush();
      const changed = recorded.changes.length;
      await device.createSnapshot("two");
      await device.deleteSnapshot("one");
      const deleted = recorded.changes.length;
      await device.applySnapshot("two");
      await device.close();

      const second = state.slice().fill(77, 1000, 6000);
      for await (const { after, bytes } of cutStates(before, recorded.changes)) {
        const where = `after change ${after} of ${recorded.changes.length}`;
        const { device: again, file: mended } = await opened(bytes);
        const found = Buffer.from(await read(again));
        const expected = after < created ? [state] : after < changed ? [state, second] : [second];
        const known = expected.some((one) => found.equals(one)) || (after >= created && after < changed); // the write itself
        expect({ where, known }).toEqual({ where, known: true });
        const names = again.image.snapshots.map(({ name }) => name);
        if (after > created && after < changed) expect(names).toEqual(["one"]);
        if (after >= deleted) expect(names).toEqual(["two"]);
        for (const name of names) {
          const snapshot = Buffer.from(await read(await again.openSnapshot(name)));
          expect({ where, name, same: snapshot.equals(name === "one" ? state : second) }).toEqual({
            where,
            name,
            same: true,
          });
        }
        await again.write(3000, new Uint8Array(2000).fill(5)); // not into a snapshot's clusters
        for (const name of names) {
          const snapshot = Buffer.from(await read(await again.openSnapshot(name)));
          expect({ where, name, kept: snapshot.equals(name === "one" ? state : second) }).toEqual({
            where,
            name,
            kept: true,
          });
        }
        await again.close();
        const report = await check(mended.bytes());
        if (!o.includes("0.10")) expect({ where, ...report }).toMatchObject({ where, corruptions: 0 });
        const repaired = memoryFile(mended.bytes());
        await qcow2.check(repaired, openContext(), { repair: "all", dryRun: false });
        expect({ where, ...(await check(repaired.bytes())) }).toMatchObject({ where, corruptions: 0, leaks: 0 });
      }
    });
  });

  test("a resize leaves the old or the new size", async () => {
    const before = (await imageBytes(qcow2, SIZE, { values: values("cluster_size=512") })).slice();
    const recorded = recordChanges(memoryFile(before));
    const device = await openDevice(recorded, openContext());
    await device.write(0, new Uint8Array(SIZE).fill(3));
    await device.flush();
    const written = recorded.changes.length;
    await device.resize(SIZE * 20);
    await device.resize(1024);
    await device.close();
    const sizes = new Set<number>();
    for await (const { after, bytes } of cutStates(before, recorded.changes)) {
      expect({ after, ...(await check(bytes)) }).toMatchObject({ after, corruptions: 0 });
      if (after < written) continue;
      const { device: again } = await opened(bytes);
      sizes.add(again.size);
      const head = new Uint8Array(1024);
      await again.read(0, head);
      expect(head.every((byte) => byte === 3)).toBe(true);
      await again.close();
    }
    expect([...sizes].sort((a, b) => a - b)).toEqual([1024, SIZE, SIZE * 20]);
  });
}
