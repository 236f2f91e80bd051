/** Random sequences of commands beside LVM2; fast-check prints the seed of one that differs, and shortens it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { runSequence, sequence } from "./lvm2-sequences.js";
import { haveLvm2 } from "./lvm2-support.js";

/** The same sequences in every run, so that a difference is the change's that brings it; `XVD_SEED=N` looks for others. */
const SEED = 1831146944;

test.skipIf(!haveLvm2)("LVM2 and xvd do the same, and refuse the same, whatever is asked", async () => {
  let done = 0;
  const same = fc.asyncProperty(sequence(30), async (commands) => {
    done += (await runSequence(commands)).done;
  });
  const seed = process.env.XVD_SEED === undefined ? SEED : Number(process.env.XVD_SEED);
  await fc.assert(same, { numRuns: 10, endOnFailure: true, seed });
  expect(done).toBeGreaterThan(40);
});
