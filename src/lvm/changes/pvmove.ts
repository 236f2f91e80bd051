/**
 * Extents on their way from one physical volume to others, as LVM2 writes it down (tools/pvmove.c, lib/metadata/mirror.c): what moves
 * becomes part of a temporary volume `pvmoveN` of mirrors, each from the old place to the new one; the moved volumes lie on that.
 *
 *   begin      extents_moved = 0: the old place counts, whatever the new one holds
 *   for each   extents_moved = all: the new place counts
 *   end        volumes lie on the places that count; pvmoveN is gone. The same with some mirrors unfinished: given up
 *
 * So each text in between can be finished, or given up, by us or by LVM2. Pure; `stack/lvm/pvmove.ts` copies.
 */
import { DiskError } from "../../errors.js";
import { allocateExtents, type PeRange } from "../allocate.js";
import { assign } from "../config/tree.js";
import { SECTOR } from "../layout.js";
import {
  type AllocationPolicy,
  type Area,
  areaExtents,
  findVolume,
  type LogicalVolume,
  numberField,
  type Segment,
  textField,
  type VolumeGroup,
} from "../metadata.js";
import { volumeTree } from "./dependents.js";
import type { GroupPlan } from "./plan.js";
import { areaFrom, cutSegment, joinSegments } from "./segment-cuts.js";

export interface PvmoveRequest {
  /** Extents to be emptied, all of one physical volume. */
  readonly from: readonly PeRange[];
  /** Where to; default: wherever there is room. */
  readonly to?: readonly PeRange[];
  /** Only what this volume is made of. */
  readonly volume?: string;
  readonly allocation?: AllocationPolicy;
  /** Of the temporary volume. */
  readonly id: string;
  readonly time: number;
  readonly host: string;
}

export interface PvmovePlan extends GroupPlan {
  /** The temporary volume's name. */
  readonly name: string;
}

const REGION_SECTORS = 4096;

export function planBeginPvmove(group: VolumeGroup, request: PvmoveRequest): PvmovePlan {
  const name = freeName(group);
  const wanted = request.volume === undefined ? null : new Set(partsOf(group, request.volume));
  const moves = new Moves(group, request, name);
  const logicalVolumes = group.logicalVolumes.map((volume) =>
    (wanted && !wanted.has(volume.name)) || volume.status.includes("LOCKED") ? volume : moves.move(volume),
  );
  if (moves.mirrors.length === 0)
    throw new DiskError("NOT_FOUND", `No data to move for ${group.name}.`, { details: { group: group.name } });
  const total = moves.extents;
  const region = Math.min(REGION_SECTORS, (total & -total) * (group.extentSize / SECTOR));
  const temporary: LogicalVolume = {
    name,
    id: request.id,
    status: ["READ", "WRITE", "PVMOVE", "LOCKED"],
    flags: [],
    tags: [],
    creationTime: request.time,
    creationHost: request.host,
    allocation: "contiguous",
    segments: moves.mirrors.map((mirror) => ({
      ...mirror,
      fields: [assign("extents_moved", 0), assign("region_size", region)],
    })),
    rest: [],
  };
  return { name, group: { ...group, logicalVolumes: [...logicalVolumes, temporary] }, steps: [] };
}

/** A volume and its parts; a pool's data and metadata are parts of it. */
function partsOf(group: VolumeGroup, name: string): string[] {
  findVolume(group, name);
  const names = new Set(volumeTree(group, name));
  for (const each of names)
    for (const segment of findVolume(group, each).segments)
      for (const key of segment.type === "thin-pool" ? ["metadata", "pool"] : []) {
        const part = textField(segment, key);
        if (part !== null) for (const below of volumeTree(group, part)) names.add(below);
      }
  return [...names];
}

function freeName({ logicalVolumes }: VolumeGroup): string {
  const taken = new Set(logicalVolumes.map(({ name }) => name));
  for (let number = 0; ; number++) if (!taken.has(`pvmove${number}`)) return `pvmove${number}`;
}

/** Collects the mirrors, and what has been allocated for them. */
class Moves {
  readonly mirrors: Segment[] = [];
  readonly #group: VolumeGroup;
  readonly #request: PvmoveRequest;
  readonly #name: string;
  extents = 0;

  constructor(group: VolumeGroup, request: PvmoveRequest, name: string) {
    [this.#group, this.#request, this.#name] = [group, request, name];
  }

  move(volume: LogicalVolume): LogicalVolume {
    const segments = volume.segments.flatMap((segment) => this.#segment(volume, segment));
    const moved = segments.some(({ areas }) => areas.some((area) => area.kind === "lv" && area.lv === this.#name));
    return moved ? { ...volume, segments, status: [...volume.status, "LOCKED"] } : volume;
  }

  #segment(volume: LogicalVolume, segment: Segment): Segment[] {
    if (segment.type !== "striped") {
      const here = segment.areas.some((area) => this.#cuts(area, areaExtents(segment)) !== null);
      if (here)
        throw new DiskError(
          "UNSUPPORTED",
          `Cannot move ${this.#group.name}/${volume.name}: it is of type ${segment.type} on physical volumes`,
        );
      return [segment];
    }
    const each = areaExtents(segment);
    const cuts = segment.areas.flatMap((area) => this.#cuts(area, each) ?? []);
    return cutSegment(segment, cuts).flatMap((piece) => this.#piece(volume, piece));
  }

  /** Where the ranges that move begin and end within an area; null: it stays. */
  #cuts(area: Area, each: number): number[] | null {
    if (area.kind !== "pv") return null;
    const cuts = this.#request.from.flatMap(({ pv, first, count }) => {
      const [from, to] = [Math.max(first - area.pe, 0), Math.min(first + count - area.pe, each)];
      return pv === area.pv && from < to ? [from, to] : [];
    });
    return cuts.length > 0 ? cuts : null;
  }

  /** Every area of a piece moves as a whole, or stays. */
  #piece(volume: LogicalVolume, piece: Segment): Segment[] {
    const each = areaExtents(piece);
    const moving = piece.areas.findIndex((area) => this.#cuts(area, each) !== null);
    if (moving < 0) return [piece];
    const runs = this.#allocate(volume, piece, moving, each);
    let at = 0;
    const ends = runs.map(({ count }) => (at += count));
    // Another area of the same piece may move too: each of the shorter pieces is looked at again.
    return cutSegment(piece, ends).flatMap((part, i) => {
      const area = part.areas[moving]!;
      const place = this.#mirror(area, runs[i]!);
      return this.#piece(volume, { ...part, areas: part.areas.with(moving, place) });
    });
  }

  #mirror(from: Area, to: PeRange): Area {
    const le = this.extents;
    this.mirrors.push({
      start: le,
      count: to.count,
      type: "mirror",
      typeFlags: [],
      tags: [],
      areas: [from, { kind: "pv", pv: to.pv, pe: to.first }],
      metadataAreas: [],
      fields: [],
    });
    this.extents += to.count;
    return { kind: "lv", lv: this.#name, le };
  }

  #newPlace(area: Area): Area {
    if (area.kind !== "lv" || area.lv !== this.#name) return area;
    return this.mirrors.find(({ start, count }) => start <= area.le && area.le < start + count)!.areas[1]!;
  }

  #allocate(volume: LogicalVolume, piece: Segment, moving: number, each: number): PeRange[] {
    const { to, from } = this.#request;
    const own = this.#request.allocation ?? "inherit";
    const policy = own === "inherit" ? (this.#group.allocation as Exclude<AllocationPolicy, "inherit">) : own;
    const source = from[0]!.pv;
    const others = piece.areas.filter((_, i) => i !== moving).map((area) => this.#newPlace(area));
    const apart = policy === "anywhere" ? new Set<string>() : besides(this.#group, volume, others);
    if (policy !== "anywhere") apart.add(source);
    const all = to ?? this.#group.physicalVolumes.map(({ name, peCount }) => ({ pv: name, first: 0, count: peCount }));
    const within = all.filter(({ pv }) => !apart.has(pv));
    if (within.length === 0) throw new DiskError("NO_SPACE", "No extents available for allocation.");
    const used: LogicalVolume = {
      ...volume,
      name: this.#name,
      segments: this.mirrors.map((mirror) => ({ ...mirror, areas: mirror.areas.slice(1) })),
    };
    const group = { ...this.#group, logicalVolumes: [...this.#group.logicalVolumes, used] };
    const allocations = allocateExtents(group, { extents: each, legs: 1, policy, within });
    return allocations.map(({ runs }) => runs[0]!);
  }
}

/** The physical volumes that hold what lies beside an area: other stripes (`beside`), other images. */
function besides(group: VolumeGroup, volume: LogicalVolume, beside: readonly Area[]): Set<string> {
  const others = [...beside];
  for (const parent of group.logicalVolumes)
    for (const { type, areas, metadataAreas } of parent.segments)
      if (type === "mirror" || type.startsWith("raid"))
        for (const [i, image] of areas.entries()) {
          const leg = [image, metadataAreas[i]].flatMap((area) => (area?.kind === "lv" ? [area.lv] : []));
          if (leg.includes(volume.name)) others.push(...areas.filter((_, j) => j !== i));
        }
  const found = new Set<string>();
  for (const area of others) {
    if (area.kind === "pv") found.add(area.pv);
    else
      for (const name of volumeTree(group, area.lv))
        for (const segment of findVolume(group, name).segments)
          for (const below of segment.areas) if (below.kind === "pv") found.add(below.pv);
  }
  return found;
}

/** Whether the new place of a pvmove's mirror counts. */
export function isMoved(mirror: Segment): boolean {
  return numberField(mirror, "extents_moved") === mirror.count;
}

/** These mirrors of a pvmove, by their first extents, are durable at their new places. */
export function planMoved(group: VolumeGroup, name: string, starts: ReadonlySet<number>): GroupPlan {
  const mark = (mirror: Segment): Segment =>
    starts.has(mirror.start)
      ? {
          ...mirror,
          fields: mirror.fields.map((field) =>
            field.key === "extents_moved" ? assign("extents_moved", mirror.count) : field,
          ),
        }
      : mirror;
  const temporary = findVolume(group, name);
  const logicalVolumes = group.logicalVolumes.map((volume) =>
    volume === temporary ? { ...volume, segments: volume.segments.map(mark) } : volume,
  );
  return { group: { ...group, logicalVolumes }, steps: [] };
}

/** Volumes lie on the places that count, and the temporary one is gone. */
export function planEndPvmove(group: VolumeGroup, name: string): GroupPlan {
  const { segments: mirrors } = findVolume(group, name);
  const logicalVolumes = group.logicalVolumes
    .filter((volume) => volume.name !== name)
    .map((volume) => {
      if (!volume.segments.some(({ areas }) => areas.some((area) => area.kind === "lv" && area.lv === name)))
        return volume;
      const status = volume.status.filter((each) => each !== "LOCKED");
      return {
        ...volume,
        status,
        segments: joinSegments(volume.segments.flatMap((each) => settled(each, name, mirrors))),
      };
    });
  return { group: { ...group, logicalVolumes }, steps: [] };
}

/** A segment with the places that count instead of its parts of the pvmove. */
function settled(segment: Segment, name: string, mirrors: readonly Segment[]): Segment[] {
  const each = areaExtents(segment);
  const cuts = segment.areas.flatMap((area) =>
    area.kind === "lv" && area.lv === name
      ? mirrors.flatMap(({ start, count }) => [start - area.le, start + count - area.le])
      : [],
  );
  const inside = cuts.filter((cut) => cut > 0 && cut < each);
  return cutSegment(segment, inside).map((piece) => ({
    ...piece,
    areas: piece.areas.map((area) => {
      if (area.kind !== "lv" || area.lv !== name) return area;
      const mirror = mirrors.find(({ start, count }) => start <= area.le && area.le < start + count)!;
      return areaFrom(mirror.areas[isMoved(mirror) ? 1 : 0]!, area.le - mirror.start);
    }),
  }));
}
