/** How large a volume shall be, as `-L` and `-l` say it, in extents. */
import { alignUp } from "../../bytes/align.js";
import { freeRuns, type PeRange } from "../allocate.js";
import type { VolumeGroup } from "../metadata.js";
import { messageSize, usage } from "./plan.js";

export type Size =
  /** `-L`: bytes, rounded up to extents. */
  | { readonly kind: "bytes"; readonly sign: "" | "+" | "-"; readonly bytes: number }
  /** `-l`: extents, or a share of something. */
  | { readonly kind: "extents"; readonly sign: "" | "+" | "-"; readonly count: number }
  | {
      readonly kind: "percent";
      readonly sign: "" | "+" | "-";
      readonly percent: number;
      readonly of: "VG" | "FREE" | "PVS" | "ORIGIN" | "LV";
    };

export interface SizedExtents {
  readonly extents: number;
  /** A share: what fits is enough. */
  readonly atMost: boolean;
  readonly remarks: readonly string[];
}

/** `-l 10`, `+5`, `50%VG`. */
export function parseExtents(text: string): Size {
  const [, sign = "", digits = "", of] = /^([+-]?)(\d{1,10})(?:%(VG|FREE|PVS|ORIGIN|LV))?$/i.exec(text.trim()) ?? [];
  if (digits === "")
    throw usage(`Cannot read extents ${JSON.stringify(text)}: allowed N, or N% with VG FREE PVS ORIGIN or LV`);
  const count = Number(digits);
  const signed = sign as "" | "+" | "-";
  if (of === undefined) return { kind: "extents", sign: signed, count };
  return { kind: "percent", sign: signed, percent: count, of: of.toUpperCase() as "VG" };
}

export interface SizeContext {
  /** Extents, for %LV. */
  readonly current?: number;
  /** Extents of a snapshot's origin, for %ORIGIN. */
  readonly origin?: number;
  readonly within?: readonly PeRange[];
  /** Shares are rounded down, or up. */
  readonly up?: boolean;
}

/** The number that a size without its sign means, in extents of `group`. */
export function sizeInExtents(group: VolumeGroup, size: Size, context: SizeContext = {}): SizedExtents {
  const { extentSize } = group;
  switch (size.kind) {
    case "bytes": {
      const bytes = alignUp(size.bytes, extentSize);
      const remarks = bytes === size.bytes ? [] : [`Rounding up size to full physical extent ${messageSize(bytes)}`];
      return { extents: bytes / extentSize, atMost: false, remarks };
    }
    case "extents":
      return { extents: size.count, atMost: false, remarks: [] };
    case "percent": {
      const whole = shareOf(group, size.of, context);
      return {
        extents: (context.up ? Math.ceil : Math.floor)((size.percent * whole) / 100),
        atMost: size.percent <= 100,
        remarks: [],
      };
    }
  }
}

function shareOf(
  group: VolumeGroup,
  of: "VG" | "FREE" | "PVS" | "ORIGIN" | "LV",
  { current = 0, origin, within }: SizeContext,
): number {
  const free = (ranges?: readonly PeRange[]) =>
    [...freeRuns(group, ranges).values()].flat().reduce((sum, { count }) => sum + count, 0);
  switch (of) {
    case "VG":
      return group.physicalVolumes.reduce((sum, pv) => sum + pv.peCount, 0);
    case "FREE":
      return free(within);
    case "PVS":
      return within
        ? within.reduce((sum, range) => sum + range.count, 0)
        : group.physicalVolumes.reduce((sum, pv) => sum + pv.peCount, 0);
    case "LV":
      return current;
    case "ORIGIN":
      if (origin !== undefined) return origin;
      throw usage("Cannot use %ORIGIN: it is for snapshots");
  }
}
