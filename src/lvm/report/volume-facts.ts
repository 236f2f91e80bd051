/** What reports tell of a volume beyond its own entry: which others it belongs to, its role, layout and attributes. */
import { isMarkedMissing, isVisible, type LogicalVolume, numberField, type Segment, textField } from "../metadata.js";
import type { FoundGroup } from "../scan.js";
import { segmentType } from "../segments/types.js";
import type { Measured } from "./measure.js";

/** A part of another volume, and as what. */
interface Membership {
  readonly parent: LogicalVolume;
  readonly role: "image" | "metadata" | "log" | "pool data" | "pool metadata";
}

interface Snapshot {
  readonly segment: Segment;
  readonly origin: string;
  readonly cow: string;
  readonly merging: boolean;
}

/** Made once for each group. */
export class GroupFacts {
  readonly found: FoundGroup;
  readonly #byName: ReadonlyMap<string, LogicalVolume>;
  readonly #parents = new Map<string, Membership>();
  readonly #byCow = new Map<string, Snapshot>();
  readonly #byOrigin = new Map<string, Snapshot[]>();
  readonly #thinBy = new Map<string, LogicalVolume[]>();
  readonly #thinOf = new Map<string, LogicalVolume[]>();
  readonly #missing: ReadonlySet<string>;
  readonly #measured: ReadonlyMap<string, Measured>;

  constructor(found: FoundGroup, measured: ReadonlyMap<string, Measured> = new Map()) {
    this.found = found;
    this.#measured = measured;
    const { logicalVolumes, physicalVolumes } = found.group;
    this.#byName = new Map(logicalVolumes.map((volume) => [volume.name, volume]));
    this.#missing = new Set(
      physicalVolumes.filter((pv) => !found.members.get(pv.name) || isMarkedMissing(pv)).map(({ name }) => name),
    );
    for (const volume of logicalVolumes) for (const segment of volume.segments) this.#note(volume, segment);
  }

  #note(parent: LogicalVolume, segment: Segment): void {
    const belongs = (name: string | null, role: Membership["role"]) => {
      if (name !== null && !this.#parents.has(name)) this.#parents.set(name, { parent, role });
    };
    for (const area of segment.areas) if (area.kind === "lv") belongs(area.lv, "image");
    for (const area of segment.metadataAreas) if (area.kind === "lv") belongs(area.lv, "metadata");
    belongs(textField(segment, "mirror_log"), "log");
    if (segment.type === "thin-pool") {
      belongs(textField(segment, "pool"), "pool data");
      belongs(textField(segment, "metadata"), "pool metadata");
    }
    const origin = textField(segment, "origin");
    if (segment.type === "snapshot") {
      const merging = textField(segment, "merging_store");
      const cow = merging ?? textField(segment, "cow_store");
      if (origin === null || cow === null) return;
      const snapshot = { segment, origin, cow, merging: merging !== null };
      this.#byCow.set(cow, snapshot);
      this.#byOrigin.set(origin, [...(this.#byOrigin.get(origin) ?? []), snapshot]);
    } else if (segment.type === "thin") {
      if (origin !== null) this.#thinOf.set(origin, [...(this.#thinOf.get(origin) ?? []), parent]);
      const pool = textField(segment, "thin_pool") ?? "";
      this.#thinBy.set(pool, [...(this.#thinBy.get(pool) ?? []), parent]);
    }
  }

  /** What the volume's own bytes say; nothing when nobody looked. */
  measured({ name }: LogicalVolume): Measured {
    return this.#measured.get(name) ?? {};
  }

  volume(name: string | null): LogicalVolume | undefined {
    return name === null ? undefined : this.#byName.get(name);
  }

  /** The entries that LVM2 keeps for itself to join origin and store. */
  isJoint({ segments }: LogicalVolume): boolean {
    return segments[0]?.type === "snapshot";
  }

  /** Shown without -a. */
  isShown(volume: LogicalVolume): boolean {
    const snapshot = this.#byCow.get(volume.name);
    return !this.isJoint(volume) && (isVisible(volume) || (snapshot !== undefined && !snapshot.merging));
  }

  /** With brackets when it is hidden. */
  shownName(volume: LogicalVolume): string {
    return this.isShown(volume) ? volume.name : `[${volume.name}]`;
  }

  bracketed(name: string | null): string | null {
    const volume = this.volume(name);
    return volume ? this.shownName(volume) : null;
  }

  /** The volume whose store this is. */
  snapshotOf(volume: LogicalVolume): Snapshot | undefined {
    return this.#byCow.get(volume.name);
  }

  snapshotsOn(volume: LogicalVolume): readonly Snapshot[] {
    return this.#byOrigin.get(volume.name) ?? [];
  }

  get snapshotCount(): number {
    return [...this.#byCow.values()].filter(({ merging }) => !merging).length;
  }

  thinVolumesIn(pool: LogicalVolume): readonly LogicalVolume[] {
    return this.#thinBy.get(pool.name) ?? [];
  }

  parentOf(volume: LogicalVolume): LogicalVolume | undefined {
    return this.#parents.get(volume.name)?.parent;
  }

  /** The snapshot's or thin snapshot's origin. */
  originOf(volume: LogicalVolume): LogicalVolume | undefined {
    const snapshot = this.snapshotOf(volume);
    if (snapshot) return this.volume(snapshot.origin);
    const [segment] = volume.segments;
    return segment?.type === "thin"
      ? this.volume(textField(segment, "origin") ?? textField(segment, "external_origin"))
      : undefined;
  }

  ancestorsOf(volume: LogicalVolume): string[] {
    const names: string[] = [];
    for (let next = this.originOf(volume); next && !names.includes(next.name); next = this.originOf(next))
      names.push(next.name);
    return names;
  }

  descendantsOf(volume: LogicalVolume): string[] {
    const found = new Set<string>();
    const add = (name: string) => {
      if (found.has(name)) return;
      found.add(name);
      for (const { cow } of this.#byOrigin.get(name) ?? []) add(cow);
      for (const thin of this.#thinOf.get(name) ?? []) add(thin.name);
    };
    add(volume.name);
    found.delete(volume.name);
    return [...found];
  }

  poolOf({ segments: [segment] }: LogicalVolume): LogicalVolume | undefined {
    return segment?.type === "thin" ? this.volume(textField(segment, "thin_pool")) : undefined;
  }

  /** Whether extents lie on a device that is missing, also those of parts. */
  isPartial(volume: LogicalVolume, depth = 0): boolean {
    if (this.#missing.size === 0 || depth > 8) return false;
    return volume.segments.some((segment) => {
      const names = [
        textField(segment, "metadata"),
        textField(segment, "pool"),
        textField(segment, "thin_pool"),
        textField(segment, "mirror_log"),
      ];
      const parts = [...segment.areas, ...segment.metadataAreas];
      return (
        parts.some((area) => area.kind === "pv" && this.#missing.has(area.pv)) ||
        [...parts.map((area) => (area.kind === "lv" ? area.lv : null)), ...names].some((name) => {
          const part = this.volume(name);
          return part !== undefined && this.isPartial(part, depth + 1);
        })
      );
    });
  }

  layoutOf(volume: LogicalVolume): string[] {
    const [segment] = volume.segments;
    if (!segment) return ["unknown"];
    if (segment.type === "striped") return [segment.areas.length > 1 ? "striped" : "linear"];
    const layout = segmentType(segment.type)?.layout.split(",") ?? ["unknown"];
    // LVM2 tells the family of parity RAID and its algorithm, which for the plain names is the default one.
    if (segment.type === "raid5") return ["raid", "raid5", "raid5_ls"];
    if (segment.type === "raid6") return ["raid", "raid6", "raid6_zr"];
    const family = /^(raid[56])_/.exec(segment.type)?.[1];
    return family ? ["raid", family, segment.type] : layout;
  }

  roleOf(volume: LogicalVolume): string[] {
    const membership = this.#parents.get(volume.name);
    if (membership) return ["private", ...roleWithin(membership)];
    if (/^lvol\d+_pmspare$/.test(volume.name)) return ["private", "pool", "spare"];
    const type = volume.segments[0]?.type;
    if (type === "thin-pool") return ["private"];
    const roles = [this.isShown(volume) ? "public" : "private"];
    if (this.snapshotsOn(volume).length > 0) roles.push("origin", "thickorigin");
    if (this.#thinOf.has(volume.name)) roles.push("origin", type === "thin" ? "thinorigin" : "extorigin");
    if (this.snapshotOf(volume)) roles.push("snapshot", "thicksnapshot");
    if (type === "thin" && this.originOf(volume)) roles.push("snapshot", "thinsnapshot");
    return [...new Set(roles)];
  }

  /** The ten letters of lvs(8). No volume is active in a kernel: state is a hyphen or I for an invalid snapshot, open a hyphen. */
  attributesOf(volume: LogicalVolume): string {
    const [segment] = volume.segments;
    const flag = (name: string, letter: string) => (volume.flags.includes(name) ? letter : "-");
    const policy = { inherit: "i", contiguous: "c", cling: "l", normal: "n", anywhere: "a" }[volume.allocation];
    return [
      this.#typeLetter(volume),
      volume.status.includes("WRITE") && this.found.group.status.includes("WRITE") ? "w" : "r",
      volume.status.includes("LOCKED") ? policy.toUpperCase() : policy,
      volume.status.includes("FIXED_MINOR") ? "m" : "-",
      this.measured(volume).store?.valid === false ? "I" : "-",
      "-",
      this.#targetLetter(volume),
      this.#zeroes(volume) ? "z" : "-",
      this.#healthLetter(volume),
      segment ? flag("ACTIVATION_SKIP", "k") : "-",
    ].join("");
  }

  #healthLetter(volume: LogicalVolume): string {
    if (this.isPartial(volume)) return "p";
    const { health } = this.measured(volume);
    return health ? { failed: "F", out_of_data: "D", metadata_read_only: "M" }[health] : "-";
  }

  #typeLetter(volume: LogicalVolume): string {
    const type = volume.segments[0]?.type ?? "";
    const membership = this.#parents.get(volume.name);
    const snapshot = this.snapshotOf(volume);
    const notSynced = volume.status.includes("NOTSYNCED");
    if (membership?.role === "log") return "l";
    if (membership?.role === "pool data") return "T";
    if (
      membership?.role === "pool metadata" ||
      membership?.role === "metadata" ||
      /^lvol\d+_pmspare$/.test(volume.name)
    )
      return "e";
    if (membership?.role === "image" && type === "striped") return "I"; // whether it is in sync only the kernel says
    if (volume.status.includes("PVMOVE")) return "p";
    if (snapshot) return snapshot.merging ? "S" : "s";
    const merging = this.snapshotsOn(volume).some((joint) => joint.merging);
    if (this.snapshotsOn(volume).length > 0) return merging ? "O" : "o";
    const letter = segmentType(type)?.attribute;
    if (letter === undefined) return "v";
    if ((letter === "m" || letter === "r") && notSynced) return letter.toUpperCase();
    return letter ?? (type === "error" || type === "zero" ? "v" : "-");
  }

  #targetLetter(volume: LogicalVolume): string {
    const membership = this.#parents.get(volume.name);
    const type = volume.segments[0]?.type ?? "";
    if (membership?.role === "pool data" || membership?.role === "pool metadata") return "-";
    if (membership && membership.role !== "image")
      return segmentType(membership.parent.segments[0]?.type ?? "")?.target ?? "-";
    if (membership && type === "striped") return segmentType(membership.parent.segments[0]?.type ?? "")?.target ?? "-";
    if (this.snapshotOf(volume) || this.snapshotsOn(volume).length > 0) return "s";
    return segmentType(type)?.target ?? "u";
  }

  /** New blocks of the pool are zeroed. */
  #zeroes(volume: LogicalVolume): boolean {
    const pool = volume.segments[0]?.type === "thin-pool" ? volume : this.poolOf(volume);
    const [segment] = pool?.segments ?? [];
    return segment !== undefined && numberField(segment, "zero_new_blocks") === 1;
  }
}

function roleWithin({ parent, role }: Membership): string[] {
  if (role === "pool data" || role === "pool metadata") return ["thin", "pool", role.slice("pool ".length)];
  const type = parent.segments[0]?.type ?? "";
  return [type.startsWith("raid") ? "raid" : type, role];
}
