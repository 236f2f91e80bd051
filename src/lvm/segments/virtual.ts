/** Segments without extents: one that fails, one that forgets. */
import { nullDevice } from "../../block/null.js";
import type { Segment } from "../metadata.js";
import { deviceTarget, failing, type OpenContext, segmentSize, type Target } from "./target.js";

export async function openError({ label }: OpenContext): Promise<Target> {
  return { locate: () => failing(label, "this part of the volume is of type error"), beneath: [] };
}

/** Takes writes and forgets them, as the kernel's zero target. */
export async function openZero({ group, label }: OpenContext, segment: Segment): Promise<Target> {
  return deviceTarget(nullDevice(segmentSize(group, segment), { label }));
}
