/** The daemons of a home: found by their records, which a dead one may have left. */
import { DiskError } from "../errors.js";
import { readJsonFile } from "../os/json-file.js";
import { namesIn } from "../os/paths.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import { Dom0Client } from "./client.js";

/** The one daemon that answers there; `run` chooses among several. */
export async function findDaemon(home: string, run?: string): Promise<XvdPaths> {
  if (run !== undefined) {
    const paths = { home, run };
    if (await new Dom0Client({ paths }).status()) return paths;
    throw new DiskError("NOT_FOUND", `Cannot reach a Dom0 in ${run}: none runs there`);
  }
  const records = namesIn(home).filter((name) => /^dom0-[0-9a-f]{8}\.json$/.test(name));
  const live: XvdPaths[] = [];
  for (const name of records) {
    const record = readJsonFile(`${home}/${name}`) as { run?: unknown } | null;
    if (typeof record?.run !== "string") continue;
    const paths = { home, run: record.run };
    if (await new Dom0Client({ paths }).status()) live.push(paths);
  }
  if (live.length === 1) return live[0]!;
  if (live.length === 0)
    throw new DiskError(
      "NOT_FOUND",
      `Cannot reach a Dom0 of ${home}: none runs there, 'XVD_HOME=${home} xvd dom0 start' starts one`,
    );
  const runs = live.map((paths) => paths.run).join(", ");
  throw new DiskError("DENIED", `Cannot choose a Dom0 of ${home}: several run there (${runs}), name one with --to-run`);
}
