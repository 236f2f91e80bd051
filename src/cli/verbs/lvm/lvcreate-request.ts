/** What `lvcreate` is asked for, whatever kind of volume it makes. */
import type { AllocationPolicy } from "../../../lvm/metadata.js";
import { parseTag } from "../../../lvm/names.js";
import type { LvmContext } from "../../../stack/lvm/change.js";
import { type CommonFlags, parseGroupName, parseVolumeName, usage } from "./options.js";
import type { SizeFlags } from "./sizes.js";
import type { ThinFlags } from "./thin-options.js";

export interface LvcreateFlags extends CommonFlags, SizeFlags, ThinFlags {
  readonly name?: string;
  readonly stripes?: number;
  readonly stripesize?: number;
  readonly type?: string;
  readonly alloc?: AllocationPolicy;
  readonly contiguous?: boolean;
  readonly addtag?: string[];
  readonly permission?: "r" | "rw";
  readonly zero?: boolean;
  readonly wipesignatures?: boolean;
  readonly setautoactivation?: boolean;
  readonly setactivationskip?: boolean;
  readonly mirrors?: number;
  readonly regionsize?: number;
  readonly nosync?: boolean;
  readonly mirrorlog?: "core" | "disk";
  readonly snapshot?: boolean;
}

/** What all kinds of volumes are asked for with. */
export function createRequest({ now, host }: LvmContext, flags: LvcreateFlags) {
  return {
    time: now,
    host,
    ...(flags.stripes === undefined ? {} : { stripes: flags.stripes }),
    ...(flags.stripesize === undefined ? {} : { stripeSize: flags.stripesize }),
    ...(flags.contiguous ? { allocation: "contiguous" as const } : flags.alloc ? { allocation: flags.alloc } : {}),
    tags: (flags.addtag ?? []).map(parseTag),
    readOnly: flags.permission === "r",
    ...(flags.setautoactivation === undefined ? {} : { autoactivation: flags.setautoactivation }),
    skipActivation: flags.setactivationskip ?? false,
  };
}

/** `-n vg/lv` and `-n lv` with the group as the argument. */
export function namesOf(target: string, { name }: Pick<LvcreateFlags, "name">): { group: string; volume?: string } {
  const group = parseGroupName(target);
  if (name === undefined) return { group };
  if (!name.includes("/")) return { group, volume: name };
  const full = parseVolumeName(name);
  if (full.group !== group) throw usage(`Inconsistent volume group names given: "${full.group}" and "${group}"`);
  return full;
}
