/** Thin pools against plain buffers, against every cut, and against their limits. */
import { describe, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { checkThinMetadata } from "#src/lvm/thin/check.js";
import { havePeer } from "../../support/peers.js";
import { PoolModel } from "./model.js";
import {
  CHUNK,
  formatTestPool,
  type Logged,
  loggedDevice,
  METADATA_SIZE,
  openTestPool,
  openTestThin,
  thinCheck,
} from "./support.js";

const SEED = Number(process.env.XVD_TEST_SEED ?? Date.now() % 1_000_000);
const DATA_SIZE = 200 * CHUNK;

describe("random work", () => {
  test.each([1, 2, 3].map((n) => SEED + n))("with seed %i", async (seed) => {
    const metadataBytes = new Uint8Array(METADATA_SIZE);
    const data = memoryDevice(DATA_SIZE);
    const metadata = memoryDevice(metadataBytes);
    const model = new PoolModel(await formatTestPool(metadata, data), seed);
    for (let step = 0; step < 400; step++) {
      await model.step();
      if (model.random(40) > 0) continue;
      expect(await model.difference()).toBe(null);
      await model.test.pool.close();
      expect(await checkThinMetadata(metadata)).toMatchObject({ problems: [] });
      if (havePeer("thin_check")) thinCheck(metadataBytes);
      model.reopened(await openTestPool(metadata, data, { cachedBlocks: 8 }));
      expect(await model.difference()).toBe(null);
    }
  });
});

describe("cuts", () => {
  test.each([1, 2].map((n) => SEED + n))("after every write of seed %i the last flush is there", async (seed) => {
    const log: Logged[] = [];
    const metadata = new Uint8Array(METADATA_SIZE);
    const data = new Uint8Array(DATA_SIZE);
    const test = await formatTestPool(loggedDevice("metadata", metadata, []), loggedDevice("data", data, []));
    await test.pool.close();
    const before = { metadata: metadata.slice(), data: data.slice() };
    const model = new PoolModel(
      await openTestPool(loggedDevice("metadata", metadata, log), loggedDevice("data", data, log)),
      seed,
      6 * CHUNK,
    );
    const history = [{ at: 0, flushed: true, contents: model.copy() }];
    for (let step = 0; step < 50; step++) {
      await model.step();
      const flushed = model.random(4) === 0;
      if (flushed) await model.test.pool.flush();
      history.push({ at: log.length, flushed, contents: model.copy() });
    }
    await model.test.pool.close();
    for (let cut = 0; cut <= log.length; cut++) {
      const entry = log[cut - 1];
      if (entry && "data" in entry) before[entry.device as "metadata" | "data"].set(entry.data, entry.offset);
      if (entry && (entry.device === "data" || "flush" in entry)) continue; // nothing new that the pool could find
      const metadataDevice = memoryDevice(before.metadata);
      expect((await checkThinMetadata(metadataDevice)).problems).toEqual([]);
      const { pool } = await openTestPool(metadataDevice, memoryDevice(before.data), { writable: false });
      const from = history.findLastIndex(({ at, flushed }) => flushed && at <= cut);
      const after = history.findIndex(({ at }) => at > cut);
      const window = history.slice(from, after < 0 ? undefined : after + 1);
      for (const id of window[0]!.contents.keys()) {
        const states = window.flatMap(({ contents }) => contents.get(id) ?? []);
        if (states.length < window.length) continue; // removed meanwhile
        const found = Buffer.alloc(model.size);
        await (await openTestThin(pool, id, model.size)).read(0, found);
        expect(`device ${id}, cut ${cut}: ${foreignSector(found, states)}`).toBe(`device ${id}, cut ${cut}: null`);
      }
    }
  });
});

/** The first sector that has none of the contents that it had since the last flush. */
function foreignSector(found: Buffer, states: readonly Buffer[]): number | null {
  for (let at = 0; at < found.length; at += 512) {
    const sector = found.subarray(at, at + 512);
    if (!states.some((state) => sector.equals(state.subarray(at, at + 512)))) return at / 512;
  }
  return null;
}
