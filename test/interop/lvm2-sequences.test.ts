/** A short random sequence of commands, the same each time; lvm2-sequences.long.test.ts runs new ones. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { runSequence, sequence } from "./lvm2-sequences.js";
import { haveLvm2 } from "./lvm2-support.js";

test.skipIf(!haveLvm2)("LVM2 and xvd do the same, and refuse the same", async () => {
  const [commands = []] = fc.sample(sequence(16), { seed: 20_260_301, numRuns: 1 });
  const { done } = await runSequence(commands);
  expect(done).toBeGreaterThan(6);
});
