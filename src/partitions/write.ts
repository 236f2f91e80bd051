/** Carries out a plan: the writes in their order, each group made durable before the next. */
import { byteGranular } from "../block/aligned.js";
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import type { TablePlan } from "./plan.js";

/** After a failure the disk shows the old table or the new one. Throws `READ_ONLY` before the first write. */
export async function writePlan(device: BlockDevice, plan: TablePlan): Promise<void> {
  if (plan.steps.length === 0) return;
  if (!device.writable)
    throw new DiskError("READ_ONLY", `Cannot write the partition table of ${device.label}: it is read-only`);
  // A table of 512-byte sectors may lie on a device of larger blocks.
  const disk = byteGranular(device);
  for (const step of plan.steps) {
    if (step.kind === "flush") await disk.flush();
    else if (step.kind === "zero") await disk.zero(step.offset, step.length);
    else await disk.write(step.offset, step.data);
  }
}
