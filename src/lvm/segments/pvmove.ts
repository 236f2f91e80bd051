/** A part of a volume on its way to another place (changes/pvmove.ts): its bytes are those of the place that counts. */
import type { Segment } from "../metadata.js";
import { numberField } from "../metadata.js";
import { openArea } from "./area.js";
import { type OpenContext, segmentSize, type Target } from "./target.js";

export async function openPvmove(context: OpenContext, segment: Segment): Promise<Target> {
  const moved = numberField(segment, "extents_moved") === segment.count;
  const { device, locate } = await openArea(
    context,
    segment.areas[moved ? 1 : 0]!,
    segmentSize(context.group, segment),
  );
  return { locate, beneath: device ? [device] : [] };
}
