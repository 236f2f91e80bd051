/** Random sequences of commands beside LVM2; fast-check prints the seed of one that differs, and shortens it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { runSequence, sequence } from "./lvm2-sequences.js";
import { haveLvm2 } from "./lvm2-support.js";

test.skipIf(!haveLvm2)("LVM2 and xvd do the same, and refuse the same, whatever is asked", async () => {
  let done = 0;
  const same = fc.asyncProperty(sequence(30), async (commands) => {
    done += (await runSequence(commands)).done;
  });
  await fc.assert(same, { numRuns: 25, endOnFailure: true });
  expect(done).toBeGreaterThan(100);
});
