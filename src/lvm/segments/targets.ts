/** How each type of segment is opened. Types that are not here are only shown (`types.ts`). */
import { DiskError } from "../../errors.js";
import type { Segment } from "../metadata.js";
import { RAID_TYPES } from "../raid/levels.js";
import { openPvmove } from "./pvmove.js";
import { openStriped } from "./striped.js";
import type { OpenContext, OpenTarget, Target } from "./target.js";
import { segmentType } from "./types.js";
import { openError, openZero } from "./virtual.js";

/** A type with much code behind it is loaded when it is met: `(c, s) => import("./x.js").then(({ openX }) => openX(c, s))`. */
const raid: OpenTarget = (context, segment) => import("./raid.js").then(({ openRaid }) => openRaid(context, segment));

const TARGETS: ReadonlyMap<string, OpenTarget> = new Map<string, OpenTarget>([
  ["striped", openStriped],
  ["raid0", openStriped],
  ["raid0_meta", openStriped],
  ["error", openError],
  ["zero", openZero],
  ["thin", (context, segment) => import("./thin.js").then(({ openThin }) => openThin(context, segment))],
  ["mirror", (context, segment) => import("./mirror.js").then(({ openMirror }) => openMirror(context, segment))],
  ...RAID_TYPES.map((type) => [type, raid] as const),
]);

export async function openTarget(context: OpenContext, segment: Segment): Promise<Target> {
  const { type, typeFlags } = segment;
  const open = context.volume.status.includes("PVMOVE") && type === "mirror" ? openPvmove : TARGETS.get(type);
  if (open && typeFlags.length === 0) return open(context, segment);
  const name = [type, ...typeFlags].join("+");
  const known = segmentType(name) ? "segments of this type are only shown by this version" : "this type is not known";
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot open ${context.label}: it is of type ${name}, ${known}, allowed are ${[...TARGETS.keys()].join(", ")}`,
    { details: { segmentType: name } },
  );
}
