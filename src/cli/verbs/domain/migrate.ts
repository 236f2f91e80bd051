/** `xvd domain migrate`: a running guest moves to another daemon, with the requests under way and, if asked, its disks. */
import { resolve } from "node:path";
import type { Command } from "commander";
import type { MigrateRequest, MigrateResult } from "../../../dom0/api-types.js";
import type { Dom0Client } from "../../../dom0/client.js";
import { dom0Client } from "../../dom0.js";
import { interruptible } from "../../interrupt.js";
import { printResult, remark } from "../../print.js";
import { withProgress } from "../../progress.js";

interface MigrateOptions {
  readonly to: string;
  readonly toRun?: string;
  readonly withDisks?: boolean;
  readonly live?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
}

const POLL_MS = 250;

export default function define(command: Command): void {
  command
    .argument("<domain>", "name or id")
    .requiredOption("--to <home>", "XVD_HOME of the other Dom0, which runs")
    .option("--to-run <run>", "its XVD_RUN, where several run in that home")
    .option("--with-disks", "copy the disks into its images folder while the guest runs; the old ones stay as they are")
    .option("--live", "as for xl: it is always live, the guest stops for the last moment only")
    .option("--force", "with --with-disks: replace files of the same names there")
    .addHelpText(
      "after",
      "\nWithout --with-disks both hosts must see the disks under the same names. Requests that had no answer are done over there,\nonce. Clients that are connected here stay connected and are served from there until they leave. Until the other host has\nthe domain, every failure lets it go on here; no two hosts ever have a disk open at the same time.\nExample: xvd domain migrate web1 --to /srv/host2 --with-disks",
    )
    .action(async (domain: string, { json, to, toRun, withDisks = false, force = false }: MigrateOptions) => {
      const request = {
        to: resolve(to),
        ...(toRun === undefined ? {} : { toRun: resolve(toRun) }),
        withDisks,
        force,
      };
      const client = dom0Client({ autostart: false });
      const result = await interruptible(
        (signal) => followed(client, domain, request, signal, json ?? false),
        "the domain goes on here, unless the other host had it by then: 'xvd domain list' tells",
      );
      printResult(json, result, () => resultLines(result));
    });
}

/** Phases are told as they begin; a bar shows how far a copy is. */
function followed(
  client: Dom0Client,
  domain: string,
  request: MigrateRequest,
  signal: AbortSignal,
  json: boolean,
): Promise<MigrateResult> {
  return withProgress(`migrate ${domain}`, { json }, async ({ onProgress }) => {
    let told = "";
    const look = async () => {
      const progress = await client.migrationProgress(domain).catch(() => null);
      if (!progress) return;
      if (progress.total > 0) onProgress?.(progress.done, progress.total);
      if (progress.phase !== told && !onProgress) remark(`xvd: ${progress.phase}`);
      told = progress.phase;
    };
    const timer = setInterval(() => void look(), POLL_MS);
    try {
      return await client.migrate(domain, request, signal);
    } finally {
      clearInterval(timer);
    }
  });
}

function resultLines(result: MigrateResult): string[] {
  const { domain, domid, home, connections, disks } = result;
  return [
    `domain ${domain} runs in ${home} with id ${domid}`,
    ...(connections > 0 ? [`clients that stay connected here and are served from there: ${connections}`] : []),
    ...disks.filter(({ copied }) => copied).map(({ from, to }) => `${to} is a copy of ${from}, which stays as it is`),
  ];
}
