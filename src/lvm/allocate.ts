/**
 * Free extents for new or growing volumes: pure, from a group and a request to runs of physical extents.
 *
 * Policies are tried from the strictest to the one that is allowed, each taking what it can (lvmallocation in lvm(8)):
 *   contiguous   directly behind what the leg has already, in one run
 *   cling        on the volumes that the leg lies on, or those with a tag in common
 *   normal       anywhere, parallel legs on different volumes
 *   anywhere     parallel legs may share a volume
 * What fits into one run goes to the first volume that has such a run. Otherwise the largest run comes first, then the order
 * of the group, then the lowest extent.
 */
import { DiskError } from "../errors.js";
import { usedRuns } from "./check-group.js";
import { type AllocationPolicy, isMarkedMissing, type VolumeGroup } from "./metadata.js";

/** Extents of one physical volume. */
export interface PeRange {
  readonly pv: string;
  readonly first: number;
  readonly count: number;
}

export interface AllocationRequest {
  /** Extents for each leg. */
  readonly extents: number;
  /** Stripes that are filled side by side. */
  readonly legs: number;
  readonly policy: Exclude<AllocationPolicy, "inherit">;
  /** Only these; default: all that is free on allocatable volumes. Ranges of one volume may be several. */
  readonly within?: readonly PeRange[];
  /** What each leg ends with now, for a volume that grows. */
  readonly ends?: readonly PeRange[];
  /**
   * Legs must not meet on a volume, whatever part of them: they are to survive the loss of one. What each leg lies on already, by the
   * names of volumes. Nothing is kept apart under the policy anywhere.
   */
  readonly apart?: readonly (readonly string[])[];
  /** Take fewer extents when there are not enough. */
  readonly atMost?: boolean;
  /** Volumes with one of these tags in common count as one for cling; "*" is any tag. */
  readonly clingTags?: readonly string[];
}

/** Runs that belong side by side: one for each leg, all of the same length. */
export interface Allocation {
  readonly extents: number;
  readonly runs: readonly PeRange[];
}

/** Throws `NO_SPACE`. */
export function allocateExtents(group: VolumeGroup, request: AllocationRequest): Allocation[] {
  const { extents, legs, policy, atMost = false } = request;
  const state = new Allocator(group, request);
  const order = ["contiguous", "cling", "normal", "anywhere"] as const;
  for (const step of order.slice(0, order.indexOf(policy) + 1)) state.fill(step);
  const taken = state.allocations.reduce((sum, { extents: count }) => sum + count, 0);
  if (taken < extents && !(atMost && taken > 0)) {
    const free = state.freeExtents;
    const legsText = legs > 1 ? ` for each of ${legs} stripes` : "";
    const suitable = free >= extents * legs ? "suitable " : "";
    throw new DiskError(
      "NO_SPACE",
      `Insufficient ${suitable}free space: ${extents} extents${legsText} needed, but only ${suitable ? taken : free} available with policy ${policy}`,
      { details: { needed: extents * legs, free } },
    );
  }
  return state.allocations;
}

/** Free runs of every volume that may be allocated from, ascending. */
export function freeRuns(group: VolumeGroup, within?: readonly PeRange[]): Map<string, PeRange[]> {
  const used = usedRuns(group);
  const free = new Map<string, PeRange[]>();
  for (const pv of group.physicalVolumes) {
    if (!pv.status.includes("ALLOCATABLE") || isMarkedMissing(pv)) continue;
    const runs: PeRange[] = [];
    let next = 0;
    for (const { pe, count } of [...(used.get(pv.name) ?? []), { pe: pv.peCount, count: 0 }]) {
      if (pe > next) runs.push({ pv: pv.name, first: next, count: Math.min(pe, pv.peCount) - next });
      next = Math.max(next, pe + count);
    }
    const allowed = within ? runs.flatMap((run) => intersect(run, within)) : runs;
    free.set(
      pv.name,
      allowed.filter(({ count }) => count > 0),
    );
  }
  return free;
}

function intersect(run: PeRange, within: readonly PeRange[]): PeRange[] {
  const wanted = within.filter(({ pv }) => pv === run.pv).sort((a, b) => a.first - b.first);
  const parts: PeRange[] = [];
  let from = run.first; // ranges may overlap, extents are taken once
  for (const { first, count } of wanted) {
    const start = Math.max(from, first);
    const end = Math.min(run.first + run.count, first + count);
    if (end <= start) continue;
    parts.push({ pv: run.pv, first: start, count: end - start });
    from = end;
  }
  return parts;
}

class Allocator {
  readonly #group: VolumeGroup;
  readonly #request: AllocationRequest;
  readonly #free: Map<string, PeRange[]>;
  readonly #order: ReadonlyMap<string, number>;
  /** What each leg ends with so far. */
  #ends: readonly PeRange[] | null;
  #left: number;
  /** Volumes of each leg, where legs are kept apart. */
  readonly #volumes: readonly Set<string>[] | null;
  readonly allocations: Allocation[] = [];

  constructor(group: VolumeGroup, request: AllocationRequest) {
    this.#group = group;
    this.#request = request;
    this.#free = freeRuns(group, request.within);
    this.#order = new Map(group.physicalVolumes.map(({ name }, i) => [name, i]));
    this.#ends = request.ends ?? null;
    this.#left = request.extents;
    this.#volumes = request.apart?.map((names) => new Set(names)) ?? null;
  }

  get freeExtents(): number {
    return [...this.#free.values()].flat().reduce((sum, { count }) => sum + count, this.#taken());
  }

  #taken(): number {
    return this.allocations.reduce((sum, { extents, runs }) => sum + extents * runs.length, 0);
  }

  fill(policy: Exclude<AllocationPolicy, "inherit">): void {
    while (this.#left > 0) {
      const runs = this.#choose(policy);
      if (!runs) return;
      const count = Math.min(this.#left, ...runs.map((run) => run.count));
      this.#take(runs.map((run) => ({ ...run, count })));
      if (policy === "contiguous") return;
    }
  }

  /** One free run for each leg, or null when there are not enough of them. */
  #choose(policy: Exclude<AllocationPolicy, "inherit">): PeRange[] | null {
    const { legs } = this.#request;
    const chosen: PeRange[] = [];
    for (let leg = 0; leg < legs; leg++) {
      const others = chosen.map(({ pv }) => pv);
      const candidates = this.#candidates(policy, leg).filter(
        (run) =>
          (policy === "anywhere" || (!others.includes(run.pv) && !this.#isOfOther(run.pv, leg))) &&
          !chosen.some((taken) => overlaps(taken, run)),
      );
      const best = candidates[0] ?? (policy === "anywhere" ? this.#split(chosen) : null);
      if (!best) return null;
      chosen.push(best);
    }
    return chosen;
  }

  #isOfOther(pv: string, leg: number): boolean {
    return this.#volumes?.some((names, other) => other !== leg && names.has(pv)) ?? false;
  }

  /** The best first. */
  #candidates(policy: Exclude<AllocationPolicy, "inherit">, leg: number): PeRange[] {
    const runs = [...this.#free.values()].flat();
    const end = this.#ends?.[leg];
    if (policy === "contiguous") {
      if (end) return runs.filter(({ pv, first }) => pv === end.pv && first === end.first + end.count);
      return this.#firstFit(runs.filter(({ count }) => count >= this.#left));
    }
    if (policy === "cling") {
      const near = end ? runs.filter(({ pv }) => this.#clings(pv, end.pv)) : [];
      const own = near.filter(({ pv }) => pv === end?.pv);
      return this.#largestFirst(own.length > 0 ? own : near);
    }
    return this.#largestFirst(runs);
  }

  #clings(pv: string, to: string): boolean {
    if (pv === to) return true;
    const { clingTags = [] } = this.#request;
    const tagsOf = (name: string) => this.#group.physicalVolumes.find((volume) => volume.name === name)?.tags ?? [];
    const wanted = tagsOf(to).filter((tag) => clingTags.includes("*") || clingTags.includes(tag));
    return wanted.some((tag) => tagsOf(pv).includes(tag));
  }

  /** By the order of the group; on one volume the smallest that is large enough, so that large runs stay whole. */
  #firstFit(runs: PeRange[]): PeRange[] {
    const position = ({ pv }: PeRange) => this.#order.get(pv) ?? 0;
    return runs.sort((a, b) => position(a) - position(b) || a.count - b.count || a.first - b.first);
  }

  #largestFirst(runs: PeRange[]): PeRange[] {
    const position = ({ pv }: PeRange) => this.#order.get(pv) ?? 0;
    return runs.sort((a, b) => b.count - a.count || position(a) - position(b) || a.first - b.first);
  }

  /** With fewer runs than legs, the longest is shared out among them. */
  #split(chosen: PeRange[]): PeRange | null {
    const longest = chosen.reduce<PeRange | null>((best, run) => (!best || run.count > best.count ? run : best), null);
    if (!longest || longest.count < 2) return null;
    const half = Math.ceil(longest.count / 2);
    chosen[chosen.indexOf(longest)] = { ...longest, count: half };
    return { pv: longest.pv, first: longest.first + half, count: longest.count - half };
  }

  #take(runs: readonly PeRange[]): void {
    for (const taken of runs) {
      const rest = this.#free.get(taken.pv)!.flatMap((run) => without(run, taken));
      this.#free.set(taken.pv, rest);
    }
    for (const [leg, names] of this.#volumes?.entries() ?? []) names.add(runs[leg]!.pv);
    const count = runs[0]!.count;
    const last = this.allocations.at(-1);
    if (last?.runs.every((run, i) => run.pv === runs[i]!.pv && run.first + run.count === runs[i]!.first))
      this.allocations[this.allocations.length - 1] = {
        extents: last.extents + count,
        runs: last.runs.map((run) => ({ ...run, count: run.count + count })),
      };
    else this.allocations.push({ extents: count, runs });
    this.#ends = runs;
    this.#left -= count;
  }
}

function overlaps(a: PeRange, b: PeRange): boolean {
  return a.pv === b.pv && a.first < b.first + b.count && b.first < a.first + a.count;
}

function without(run: PeRange, taken: PeRange): PeRange[] {
  if (!overlaps(run, taken)) return [run];
  const before = { ...run, count: taken.first - run.first };
  const end = taken.first + taken.count;
  const after = { ...run, first: end, count: run.first + run.count - end };
  return [before, after].filter(({ count }) => count > 0);
}
