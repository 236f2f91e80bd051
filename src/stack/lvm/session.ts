/**
 * Devices opened, looked through for volume groups, and closed again. Readers do not lock: metadata carries checksums, and
 * reports must work while a domain uses a volume. Writers share each disk with the users of other parts of it.
 */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import { type Candidate, type Scan, scanDevices } from "../../lvm/scan.js";
import { openPartition, readPartitionTable } from "../../partitions/table.js";
import type { OpenDisk, OpenDiskOptions } from "../disk.js";
import { canonicalName } from "./devices.js";

export interface SessionOptions extends Pick<OpenDiskOptions, "paths" | "domainName"> {
  readonly writable?: boolean;
  /** Lock the disks, as users of volumes do; default when writable. */
  readonly locked?: boolean;
}

export interface Session {
  readonly scan: Scan;
  /** Every device that could be opened, whether or not a physical volume lies on it. */
  readonly candidates: readonly Candidate[];
  close(): Promise<void>;
}

/** How a disk is opened by its name: `openDiskStack`, which opens volumes by this file and so cannot be imported here. */
export type OpenNamed = (name: string, options: OpenDiskOptions) => Promise<OpenDisk>;

/** `names` of disks; the partitions of a whole disk are looked at too. A disk that is not there is told in the warnings. */
export async function openSessionBy(
  open: OpenNamed,
  names: readonly string[],
  options: SessionOptions,
): Promise<Session> {
  const opened: BlockDevice[] = [];
  const candidates = new Map<string, Candidate>();
  const warnings: string[] = [];
  const close = async () => {
    for (const device of opened) await device.close();
  };
  try {
    for (const given of names) {
      const name = canonicalName(given);
      const device = await openCandidate(open, name, options, warnings);
      if (!device) continue;
      opened.push(device);
      for (const candidate of await withPartitions(name, device))
        if (!candidates.has(candidate.name)) candidates.set(candidate.name, candidate);
    }
    const scan = await scanDevices([...candidates.values()]);
    return {
      scan: { ...scan, warnings: [...warnings, ...scan.warnings] },
      candidates: [...candidates.values()],
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openCandidate(
  open: OpenNamed,
  name: string,
  options: SessionOptions,
  warnings: string[],
): Promise<BlockDevice | null> {
  const { writable = false, locked = writable, paths, domainName } = options;
  try {
    const { device } = await open(name, {
      writable,
      ...(locked ? { shared: true } : { forceShare: true }),
      ...(paths ? { paths } : {}),
      ...(domainName ? { domainName } : {}),
    });
    return device;
  } catch (error) {
    if (!(error instanceof DiskError) || error.code !== "NOT_FOUND") throw error;
    warnings.push(`WARNING: ${error.message}.`);
    return null;
  }
}

/** The device itself, and its partitions where it is a whole disk that has some. */
export async function withPartitions(name: string, device: BlockDevice): Promise<Candidate[]> {
  const whole: Candidate = { name, device };
  if (/#p\d+$/.test(name)) return [whole];
  const table = await readPartitionTable(device).catch((error: unknown) => {
    if (error instanceof DiskError && error.code === "CORRUPT") return null;
    throw error;
  });
  const parts = (table?.partitions ?? []).filter(
    ({ kind, offset, size }) => kind !== "extended" && offset <= device.size - size,
  );
  return [
    whole,
    ...parts.map(({ number }) => ({ name: `${name}#p${number}`, device: openPartition(device, table!, number) })),
  ];
}
