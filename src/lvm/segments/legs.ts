/** What RAID and mirror segments have in common: legs opened where they are there, and a set that is made whole while it is used. */
import type { BlockDevice } from "../../block/device.js";
import { slice } from "../../block/slice.js";
import { DiskError } from "../../errors.js";
import { MONOTONIC_CLOCK } from "../../os/clock.js";
import { type Area, findVolume, isMarkedMissing } from "../metadata.js";
import { RaidSet, type SetOptions } from "../raid/set.js";
import { deviceTarget, type OpenContext, type Target } from "./target.js";

/** Up to so many bytes are made alike before a volume is there; more is done beside its use. */
const AT_ONCE = 64 << 20;

/** `length` bytes of an area as a device, or null when some of them are on a device that is missing. */
export async function openLeg(context: OpenContext, area: Area, length: number): Promise<BlockDevice | null> {
  if (isMissing(context, area)) return null;
  const { group } = context;
  const [device, begin] =
    area.kind === "lv"
      ? [await context.open(area.lv), area.le * group.extentSize]
      : [context.device(area.pv)!, peOffset(context, area.pv, area.pe)];
  if (begin + length > device.size)
    throw new DiskError(
      "CORRUPT",
      `Cannot open ${context.label}: ${device.label} has ${device.size} bytes, a leg ends at ${begin + length}`,
    );
  return slice(device, begin, length);
}

function peOffset({ group }: OpenContext, name: string, pe: number): number {
  const { peStart } = group.physicalVolumes.find((pv) => pv.name === name)!;
  return peStart + pe * group.extentSize;
}

function isMissing(context: OpenContext, area: Area): boolean {
  if (area.kind === "pv") {
    const pv = context.group.physicalVolumes.find(({ name }) => name === area.pv);
    return !context.device(area.pv) || pv === undefined || isMarkedMissing(pv);
  }
  const { segments } = findVolume(context.group, area.lv);
  return segments.some(({ areas }) => areas.some((beneath) => isMissing(context, beneath)));
}

/** Refuses a set that lacks bytes; begins to make its legs alike when it may be written. */
export async function startSet({ maintain, volume }: OpenContext, options: Omit<SetOptions, "now">): Promise<Target> {
  const set = new RaidSet({ ...options, now: () => MONOTONIC_CLOCK.now() });
  if (!set.isComplete)
    throw new DiskError(
      "IO",
      `Cannot open ${options.label}: too many of its ${options.legs.length} legs are missing or out of date`,
      { details: { legs: [...set.legStates] } },
    );
  try {
    if (maintain) await maintain(set, volume);
    else if (options.writable) await set.recover(AT_ONCE);
  } catch (error) {
    await set.device.close();
    throw error;
  }
  return deviceTarget(set.device);
}
