/** The backend thread that a host starts before a disk needs it. */
import { setImmediate as turn } from "node:timers/promises";
import type { Worker } from "node:worker_threads";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";
import { isFree, testHost } from "./host-support.js";

const started: Worker[] = [];
const note = (worker: Worker) => started.push(worker);
beforeEach(() => {
  started.length = 0;
  process.on("worker", note);
});
afterEach(() => {
  process.off("worker", note);
});

test("the first disk has its thread already", async () => {
  const dir = tempDir();
  const { host } = await testHost(dir);
  await turn(); // a worker is told of a moment after it was made
  expect(started).toHaveLength(2); // Domain-0 and its backend
  const disk = createRawDisk(dir, "a.dsk", 1 << 20);
  await host.attach({ disk });
  await turn();
  expect(started).toHaveLength(2);
  await host.stop();
  await isFree(disk);
});

test("a host that stops as soon as it has started leaves no thread", async () => {
  const dir = tempDir();
  for (let round = 0; round < 5; round++) {
    started.length = 0;
    const { host, errors } = await testHost(dir, `short-${round}`);
    await host.stop();
    await turn();
    expect(started.map(({ threadId }) => threadId)).toEqual([-1, -1]); // ended
    expect(errors).toEqual([]);
  }
});
