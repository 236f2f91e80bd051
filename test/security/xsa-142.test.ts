/** XSA-142 and XSA-266 (CVE-2015-7311, CVE-2018-12892): a disk that was configured read-only could be written. */
import { expect, test } from "vitest";
import { ERROR, isUntouched, OKAY, rawFrontend, verdict, wholePages } from "../xen/raw-frontend.js";

test.each([false, true])("a read-only disk refuses every kind of write; persistent grants: %s", async (persistent) => {
  const front = rawFrontend({ writable: false, persistent });
  const back = front.connect();
  const segments = wholePages(front, 2);
  front.data.bytes.fill(0xff);
  expect(await verdict(front, back, { op: 1, segments })).toBe(ERROR);
  expect(await verdict(front, back, { op: 2, segments })).toBe(ERROR);
  expect(await verdict(front, back, { op: 2 })).toBe(ERROR);
  expect(await verdict(front, back, { op: 3, segments })).toBe(ERROR);
  expect(await verdict(front, back, { op: 5, nrSectors: 8n })).toBe(ERROR);
  expect(await verdict(front, back, { op: 6, inner: 1, segments: wholePages(front, 20) })).toBe(ERROR);
  expect(await isUntouched(front.memory)).toBe(true);
  expect(await verdict(front, back, { op: 3 })).toBe(OKAY);
  expect(await verdict(front, back, { op: 0, segments })).toBe(OKAY);
  expect(await verdict(front, back, { op: 6, inner: 0, segments: wholePages(front, 20) })).toBe(OKAY);
  await back.close();
});
