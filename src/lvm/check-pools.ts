/** The metadata of a group's thin pools checked, also what LVM2's own tools do not look at. Nothing is written. */
import { DiskError } from "../errors.js";
import { openVolume } from "./activate.js";
import { missingPvs } from "./changes/missing.js";
import { damage, type Finding, note } from "./check-found.js";
import { checkGroup } from "./check-group.js";
import { textField } from "./metadata.js";
import { devicesOf, type FoundGroup } from "./scan.js";
import { checkThinMetadata } from "./thin/check.js";

/** Of pools whose devices are all there; a pool that is in use meanwhile may look damaged. */
export async function checkPools(found: FoundGroup): Promise<Finding[]> {
  const { group } = found;
  if (missingPvs(found).length > 0 || checkGroup(group).length > 0) return [];
  const findings: Finding[] = [];
  for (const { name, segments } of group.logicalVolumes) {
    const [segment] = segments;
    const metadata = segment?.type === "thin-pool" ? textField(segment, "metadata") : null;
    if (metadata === null) continue;
    for (const { level, message } of await checkPool(found, metadata))
      findings.push({ level, message: `pool ${group.name}/${name}: ${message}` });
  }
  return findings;
}

async function checkPool(found: FoundGroup, metadata: string): Promise<Finding[]> {
  try {
    const device = await openVolume(found.group, metadata, devicesOf(found.members));
    try {
      if (await isUnused(device)) return [];
      const { problems, needsCheck } = await checkThinMetadata(device);
      const marked = needsCheck ? [damage("its metadata is marked as in need of a check")] : [];
      return [...marked, ...problems.map(({ kind, text }) => damage(kind === "leak" ? `leaked: ${text}` : text))];
    } finally {
      await device.close();
    }
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    return [error.code === "UNSUPPORTED" ? note(error.message) : damage(error.message)];
  }
}

/** A pool that nobody has used yet: a kernel makes its metadata when it finds zeros. */
async function isUnused(device: Awaited<ReturnType<typeof openVolume>>): Promise<boolean> {
  const head = new Uint8Array(4096);
  await device.read(0, head);
  return head.every((byte) => byte === 0);
}
