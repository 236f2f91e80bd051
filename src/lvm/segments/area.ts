/** One area of a segment: a run of extents on a physical volume, or within another logical one. */
import type { BlockDevice } from "../../block/device.js";
import type { Location } from "../../block/mapped.js";
import type { Area } from "../metadata.js";
import { failing, type OpenContext } from "./target.js";

export interface OpenArea {
  /** `offset` in bytes from the begin of the area. */
  locate(offset: number): Location;
  /** Null: its device is missing. */
  readonly device: BlockDevice | null;
}

/** `length` bytes of an area. What is missing or too short fails when it is used, not before. */
export async function openArea(context: OpenContext, area: Area, length: number): Promise<OpenArea> {
  const { group, label } = context;
  if (area.kind === "lv") return runOn(await context.open(area.lv), area.le * group.extentSize, length, label);
  const pv = group.physicalVolumes.find(({ name }) => name === area.pv)!;
  const device = context.device(area.pv);
  if (device) return runOn(device, pv.peStart + area.pe * group.extentSize, length, label);
  const why = `the physical volume ${pv.id} (${pv.device || "unknown device"}) is missing`;
  return { device: null, locate: () => failing(label, why) };
}

function runOn(device: BlockDevice, begin: number, length: number, label: string): OpenArea {
  const inside = Math.max(0, Math.min(length, device.size - begin));
  return {
    device,
    locate(offset) {
      if (offset >= inside)
        return failing(label, `its bytes would lie behind the end of ${device.label}, which has ${device.size} bytes`);
      return { kind: "data", device, offset: begin + offset, length: inside - offset, shared: false };
    },
  };
}
