/** Physical volumes made, removed and resized on devices; volume groups are told of it. */
import type { BlockDevice } from "../../block/device.js";
import { alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import { identifyFilesystem } from "../../filesystems/identify.js";
import { planResizePv } from "../../lvm/changes/group.js";
import { requireChangeable } from "../../lvm/changes/plan.js";
import { type PvRequest, planPv, writePv } from "../../lvm/create-pv.js";
import { newId, parseId } from "../../lvm/id.js";
import { encodeLabel, isInUse, withInUse } from "../../lvm/label.js";
import { LABEL_SECTORS, SECTOR } from "../../lvm/layout.js";
import type { Candidate, FoundGroup, FoundPv, Scan } from "../../lvm/scan.js";
import { scanDevices } from "../../lvm/scan.js";
import { readPartitionTable } from "../../partitions/table.js";
import { applyChange, type ChangeOptions, type LvmContext, requireWhole } from "./change.js";
import { addDevices, canonicalName, removeDevices } from "./devices.js";
import type { Session } from "./session.js";

export interface InitOptions extends Omit<PvRequest, "id"> {
  /** With hyphens or without; default a new one. */
  readonly id?: string;
  /** Wipe file systems. */
  readonly yes: boolean;
  /** 2: also a volume that some group has. */
  readonly force: number;
  readonly dryRun: boolean;
}

/** The open device of a name. Throws `NOT_FOUND`. */
export function findCandidate({ candidates }: Session, disk: string): Candidate {
  const name = canonicalName(disk);
  const found = candidates.find((candidate) => candidate.name === name);
  if (found) return found;
  throw new DiskError("NOT_FOUND", `Cannot use ${disk}: device not found`, { details: { device: disk } });
}

/** The group that has a device as one of its volumes. */
export function groupOf({ groups }: Scan, name: string): FoundGroup | undefined {
  return groups.find(({ members }) => [...members.values()].some((pv) => pv?.name === name));
}

export function freePv({ free }: Scan, name: string): FoundPv | undefined {
  return free.find((pv) => pv.name === name);
}

/** Makes a device a physical volume that is in no group. In a dry run it returns what it would be, and writes nothing. */
export async function initPv(
  context: LvmContext,
  session: Session,
  disk: string,
  options: InitOptions,
): Promise<FoundPv> {
  const candidate = findCandidate(session, disk);
  const owner = groupOf(session.scan, candidate.name);
  if (owner && options.force < 2)
    throw new DiskError(
      "DENIED",
      `Can't initialize physical volume "${disk}" of volume group "${owner.group.name}" without -ff`,
    );
  const old = freePv(session.scan, candidate.name);
  if (old && isInUse(old.label) && options.force < 2)
    throw new DiskError(
      "DENIED",
      `Can't initialize PV '${disk}' without -ff: it is marked as belonging to a volume group whose metadata is missing`,
    );
  const wipe = await refuseContents(candidate, disk, options);
  const id = options.id === undefined ? newId(context.random) : options.id;
  if (parseId(id) === null)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot use UUID ${JSON.stringify(id)}: allowed are 32 letters and digits in groups 6-4-4-4-4-4-6`,
      { details: { usage: true } },
    );
  const other = [
    ...session.scan.free,
    ...session.scan.groups.flatMap(({ members }) => [...members.values()].filter((pv) => pv !== null)),
  ].find((pv) => pv.label.id === id && pv.name !== candidate.name);
  if (other) throw new DiskError("DENIED", `uuid ${id} already in use on "${other.name}"`);
  const plan = planPv(candidate.device, { ...options, id });
  if (options.dryRun) return { name: candidate.name, device: candidate.device, label: plan.label, areas: [] };
  const { byteGranular } = await import("../../block/aligned.js");
  const device = byteGranular(candidate.device);
  if (wipe) await wipeSignatures(device);
  await writePv(device, plan);
  const made = (await scanDevices([candidate])).free[0];
  if (!made) throw new DiskError("IO", `Cannot create physical volume on ${disk}: it does not read back`);
  return made;
}

/** Whether there is something to be wiped. Throws `DENIED` for what must not be lost without being asked for. */
async function refuseContents({ device }: Candidate, disk: string, { yes, force }: InitOptions): Promise<boolean> {
  const table = await readPartitionTable(device).catch((error: unknown) => {
    if (error instanceof DiskError && error.code === "CORRUPT") return null;
    throw error;
  });
  if (table)
    throw new DiskError("DENIED", `Cannot use ${disk}: device is partitioned, allowed are its partitions (${disk}#pN)`);
  const found = await identifyFilesystem(device);
  if (!found || found.type === "LVM2_member") return false;
  if (!yes && force === 0)
    throw new DiskError("DENIED", `Cannot use ${disk}: a ${found.type} signature is on it, allowed with --yes`, {
      details: { filesystem: found.type },
    });
  return true;
}

/** Superblocks of file systems lie within this many bytes. */
const SIGNATURE_ROOM = 128 << 10;

/** Contents of which nothing is to be found any more. */
export async function wipeSignatures(device: BlockDevice): Promise<void> {
  await device.zero(0, Math.min(SIGNATURE_ROOM, device.size));
  const end = device.size - Math.min(device.size, alignUp(4096, 4096));
  const left = await identifyFilesystem(device);
  if (left) await device.zero(end, device.size - end); // such as keep a copy at the end
}

export function registerPvs({ paths }: LvmContext, pvs: readonly FoundPv[]): void {
  addDevices(
    paths.home,
    pvs.map(({ name, label }) => ({ name, pvid: parseId(label.id) })),
  );
}

/** Takes the label away. Throws `DENIED` for a volume of a group without `force` 2. */
export async function removePv(
  context: LvmContext,
  session: Session,
  disk: string,
  { force, dryRun }: Pick<InitOptions, "force" | "dryRun">,
): Promise<void> {
  const candidate = session.candidates.find(({ name }) => name === canonicalName(disk));
  if (!candidate) throw new DiskError("NOT_FOUND", `No device found for ${disk}.`);
  const owner = groupOf(session.scan, candidate.name);
  if (owner && force < 2)
    throw new DiskError("DENIED", `PV ${disk} is used by VG ${owner.group.name} so please use vgreduce first.`);
  const pv = freePv(session.scan, candidate.name);
  if (!owner && !pv) throw new DiskError("NOT_FOUND", `No PV found on device ${disk}.`);
  if (pv && isInUse(pv.label) && force < 2)
    throw new DiskError(
      "DENIED",
      `PV ${disk} is marked as belonging to a VG but its metadata is missing, allowed with -ff`,
    );
  if (dryRun) return;
  const { byteGranular } = await import("../../block/aligned.js");
  const device = byteGranular(candidate.device);
  await device.write(0, new Uint8Array(LABEL_SECTORS * SECTOR));
  await device.flush();
  removeDevices(context.paths.home, [candidate.name]);
}

/** Lets a volume have the size of its device, or a smaller one that is given. */
export async function resizePv(
  context: LvmContext,
  session: Session,
  disk: string,
  size: number | null,
  options: ChangeOptions,
): Promise<readonly string[]> {
  const { name } = findCandidate(session, disk);
  const owner = groupOf(session.scan, name);
  const pv = owner ? [...owner.members.values()].find((member) => member?.name === name) : freePv(session.scan, name);
  if (!pv) throw new DiskError("NOT_FOUND", `Failed to find physical volume "${disk}".`);
  const deviceSize = size ?? pv.device.size;
  if (deviceSize > pv.device.size)
    throw new DiskError(
      "NO_SPACE",
      `Cannot resize physical volume "${disk}" to ${deviceSize} bytes: its device has ${pv.device.size}`,
    );
  const resized = { ...pv.label, deviceSize };
  const second = pv.label.metadataAreas.find(({ offset }) => offset > (pv.label.dataAreas[0]?.offset ?? 0));
  if (second && second.offset + second.size > deviceSize)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot resize physical volume "${disk}": its second metadata area would be cut off`,
    );
  const writeLabel = async () => {
    await pv.device.write(pv.label.sector * SECTOR, encodeLabel(withInUse(resized, owner !== undefined)));
    await pv.device.flush();
  };
  const steps = [`Physical volume "${disk}" changed`];
  if (!owner) {
    if (!options.dryRun) await writeLabel();
    return steps;
  }
  requireWhole(owner);
  requireChangeable(owner.group);
  const [local] = [...owner.members].find(([, member]) => member === pv)!;
  const plan = planResizePv(owner.group, local, resized, deviceSize, disk);
  // The label is advisory: a cut between them leaves the old or the new group, which says the size that counts.
  const result = await applyChange(context, owner, { ...plan, prepare: writeLabel }, options);
  return options.dryRun ? result.diff : steps;
}
