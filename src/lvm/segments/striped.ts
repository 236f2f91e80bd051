/** Linear, striped, raid0: the maths of the kernel's linear and striped targets. The fact sheet of raid0 is that of striped, over its images. */
import { DiskError } from "../../errors.js";
import { SECTOR } from "../layout.js";
import { areaExtents, numberField, type Segment, type VolumeGroup } from "../metadata.js";
import { openArea } from "./area.js";
import type { OpenContext, Target } from "./target.js";

export async function openStriped(context: OpenContext, segment: Segment): Promise<Target> {
  const { label, group } = context;
  const length = areaLength(group, segment);
  const stripes = await Promise.all(segment.areas.map((area) => openArea(context, area, length)));
  const beneath = stripes.flatMap(({ device }) => device ?? []);
  if (stripes.length === 1) return { locate: stripes[0]!.locate, beneath };
  const chunk = (numberField(segment, "stripe_size") ?? 0) * SECTOR;
  if (chunk < SECTOR || !Number.isInteger(Math.log2(chunk / SECTOR)))
    throw new DiskError(
      "CORRUPT",
      `Cannot open ${label}: its stripe size is ${chunk} bytes, allowed are powers of two from ${SECTOR} on`,
    );
  return {
    beneath,
    locate(offset) {
      const number = Math.floor(offset / chunk);
      const within = offset % chunk;
      const row = Math.floor(number / stripes.length);
      const location = stripes[number % stripes.length]!.locate(row * chunk + within);
      return { ...location, length: Math.min(location.length, chunk - within) };
    },
  };
}

/** Bytes that a segment takes of each of its areas. */
function areaLength({ extentSize }: VolumeGroup, segment: Segment): number {
  const extents = segment.type === "striped" ? areaExtents(segment) : Math.ceil(segment.count / segment.areas.length);
  return extents * extentSize;
}
