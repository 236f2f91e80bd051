/** Carries out a plan: the writes in their order, each group made durable before the next. */
import type { BlockDevice } from "../block/device.js";
import { alignDown, alignUp } from "../bytes/align.js";
import { DiskError } from "../errors.js";
import type { TablePlan } from "./plan.js";

/** After a failure the disk shows the old table or the new one. Throws `READ_ONLY` before the first write. */
export async function writePlan(device: BlockDevice, plan: TablePlan): Promise<void> {
  if (plan.steps.length === 0) return;
  if (!device.writable)
    throw new DiskError("READ_ONLY", `Cannot write the partition table of ${device.label}: it is read-only`);
  for (const step of plan.steps) {
    if (step.kind === "flush") await device.flush();
    else if (step.kind === "zero") await zeroBytes(device, step.offset, step.length);
    else await writeBytes(device, step.offset, step.data);
  }
}

/** Whole blocks are made holes; parts of blocks are written. */
async function zeroBytes(device: BlockDevice, offset: number, length: number): Promise<void> {
  const from = Math.min(alignUp(offset, device.blockSize), offset + length);
  const to = Math.max(alignDown(offset + length, device.blockSize), from);
  if (from > offset) await writeBytes(device, offset, new Uint8Array(from - offset));
  await device.zero(from, to - from);
  if (offset + length > to) await writeBytes(device, to, new Uint8Array(offset + length - to));
}

/** A table of 512-byte sectors on a device of larger blocks: the rest of the block is read first and kept. */
async function writeBytes(device: BlockDevice, offset: number, data: Uint8Array): Promise<void> {
  const from = alignDown(offset, device.blockSize);
  const to = alignUp(offset + data.length, device.blockSize);
  if (from === offset && to === offset + data.length) return device.write(offset, data);
  const blocks = new Uint8Array(to - from);
  await device.read(from, blocks);
  blocks.set(data, offset - from);
  return device.write(from, blocks);
}
