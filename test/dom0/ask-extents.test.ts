/** A Dom0 that takes its time: the guest goes on without an answer, and asks again when the late one has arrived. */
import { expect, test } from "vitest";
import { askExtents } from "#src/dom0/ask-extents.js";
import type { StoredRun } from "#src/xen/blkfront-extents.js";

test("a late answer is waited for once, for its disk alone, and not for ever", async () => {
  const asked: { devid: number; answer: (runs: StoredRun[]) => void; fail: (error: Error) => void }[] = [];
  const ask = askExtents(({ devid }) => new Promise((answer, fail) => asked.push({ devid, answer, fail })), 20);
  const hole = [{ length: 512, data: false, zero: true }];
  expect(await ask({ devid: 1, offset: 0, length: 512 })).toBeNull();
  expect(await ask({ devid: 1, offset: 512, length: 512 })).toBeNull();
  expect(asked).toHaveLength(1);

  const other = ask({ devid: 2, offset: 0, length: 512 });
  asked[1]!.answer(hole);
  expect(await other).toEqual(hole);

  asked[0]!.fail(new Error("the backend has gone"));
  await Promise.resolve();
  const again = ask({ devid: 1, offset: 0, length: 512 });
  asked[2]!.answer(hole);
  expect(await again).toEqual(hole);

  const failed = ask({ devid: 1, offset: 0, length: 512 });
  asked[3]!.fail(new Error("the backend has gone"));
  await expect(failed).rejects.toThrow("has gone");
  expect(asked.map(({ devid }) => devid)).toEqual([1, 2, 1, 1]);
});
