/**
 * Check and repair. What is repaired: leaks, wrong refcounts (by rebuilding them all), COPIED flags, the dirty and the corrupt bit.
 * What is only told: entries that point to where nothing can be; there is no way to know what they should say.
 *
 * Order of a repair: refcounts first, then flags, then the bits of the header. A cut leaves what the next repair mends.
 */
import type { HostFile } from "../../block/host-file.js";
import type { CheckOptions, CheckReport } from "../extensions.js";
import { compareRefcounts } from "./check-refcounts.js";
import { ReferenceCheck } from "./check-references.js";
import { Findings } from "./check-report.js";
import { syncCopiedFlags } from "./copied-flags.js";
import type { Qcow2Image } from "./image.js";
import { INCOMPATIBLE } from "./layout.js";
import { writeTables } from "./metadata.js";
import { openTables } from "./open-tables.js";
import { rebuildRefcounts } from "./rebuild-refcounts.js";

export async function checkFile(host: HostFile, options: CheckOptions): Promise<CheckReport> {
  const image = await openTables(host);
  const report = await checkImage(image, options);
  await image.file.trim();
  return report;
}

/** The image is this call's alone: its tables in memory are changed. */
export async function checkImage(image: Qcow2Image, options: CheckOptions): Promise<CheckReport> {
  const { repair, dryRun, signal, onProgress } = options;
  const findings = new Findings();
  await image.loadRefcounts();
  const references = new ReferenceCheck(image, findings, signal);
  await references.countAll(onProgress);
  const unmendable = findings.corruptions;
  const mends = { leaks: repair !== "none", all: repair === "all" };
  const wrong = await compare(image, references, findings, { mends, dryRun });
  if (mends.all && wrong && !dryRun) await rebuild(image, findings, signal);
  else if (mends.leaks && !dryRun) await writeTables(image);
  await syncCopiedFlags(image, {
    mend: mends.all && !dryRun,
    onWrong: (what, offset, count) =>
      findings.corruption(`the COPIED flag of the ${what} at ${offset} is wrong: its refcount is ${count}`, mends.all),
  });
  if (mends.all && !dryRun) {
    await writeTables(image);
    if (unmendable === 0) await clearMarks(image);
  }
  return findings.report(image.geometry.clusterSize, image.size);
}

interface Mends {
  readonly mends: { readonly leaks: boolean; readonly all: boolean };
  readonly dryRun: boolean;
}

/** Resolves to whether refcounts are too low or their structure is damaged. */
async function compare(
  image: Qcow2Image,
  references: ReferenceCheck,
  findings: Findings,
  { mends, dryRun }: Mends,
): Promise<boolean> {
  const before = findings.corruptions;
  references.countRefcounts();
  const damaged = findings.corruptions - before;
  if (mends.all) {
    findings.corruptions = before;
    findings.corruptionsFixed += damaged;
  }
  let low = 0;
  await compareRefcounts(image, references.counts, findings, {
    mendLeaks: mends.leaks && !dryRun,
    onWrong(cluster, stored, counted) {
      const text = `the refcount of the cluster at ${cluster * image.geometry.clusterSize} is ${stored}, references ${counted}`;
      if (stored > counted) return findings.leak(text, mends.leaks);
      low++;
      findings.corruption(text, mends.all);
    },
  });
  return low > 0 || damaged > 0;
}

/** Counted once more without the old refcount structure, which is given up. */
async function rebuild(image: Qcow2Image, findings: Findings, signal: AbortSignal | undefined): Promise<void> {
  const again = new ReferenceCheck(image, new Findings(), signal);
  await again.countAll();
  await rebuildRefcounts(image, again.counts, image.header.incompatible);
  findings.endCluster = Math.ceil(image.file.size / image.geometry.clusterSize);
}

async function clearMarks(image: Qcow2Image): Promise<void> {
  const incompatible = image.header.incompatible & ~(INCOMPATIBLE.dirty | INCOMPATIBLE.corrupt);
  if (incompatible === image.header.incompatible) return;
  await image.writeHeader({ incompatible });
  await image.barrier();
}
