/** The disks that a command's arguments name: opened, and closed whatever happens. */
import type { Command } from "commander";
import { xvdPaths } from "../os/xvd-paths.js";
import { type OpenDisk, type OpenDiskOptions, openDiskStack } from "../stack/disk.js";
import { remark } from "./print.js";

export interface DiskFlags {
  readonly format?: string;
  readonly forceShare?: boolean;
  readonly allowBacking?: boolean;
}

/** `-f`, `--force-share` and `--allow-backing`, for commands that read one disk. */
export function addDiskOptions(command: Command): Command {
  return command
    .option("-f, --format <format>", "format of the image; .dsk .img .raw are raw, others go by their extension")
    .option("--force-share", "read although somebody else writes")
    .option("--allow-backing", "open files that the image names");
}

/** What names of disks need to know about this user's world. */
export function diskContext(): Pick<OpenDiskOptions, "paths" | "domainName" | "warn"> {
  const paths = xvdPaths(process.env, process.getuid?.());
  return {
    paths,
    warn: (text) => remark(`  ${text}`),
    async domainName(domid) {
      const { Dom0Client } = await import("../dom0/client.js");
      const status = await new Dom0Client({ paths }).status();
      return status?.domains.find((domain) => domain.domid === domid)?.name ?? null;
    },
  };
}

export function openNamed(text: string, options: OpenDiskOptions): Promise<OpenDisk> {
  return openDiskStack(text, { ...options, ...diskContext() });
}

/** Runs `work` with an open disk and closes it. */
export async function withDisk<T>(
  text: string,
  options: OpenDiskOptions,
  work: (disk: OpenDisk) => Promise<T>,
): Promise<T> {
  const disk = await openNamed(text, options);
  try {
    return await work(disk);
  } finally {
    await disk.device.close();
  }
}
