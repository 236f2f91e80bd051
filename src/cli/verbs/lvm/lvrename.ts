/** `xvd lvrename`: a volume, and with it its parts, get another name. */
import type { Command } from "commander";
import { planRenameVolume } from "../../../lvm/changes/volume.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  lvmContext,
  parseGroupName,
  parseVolumeName,
  printChange,
  usage,
} from "./options.js";

export default function define(command: Command): void {
  addChanging(command.argument("<names...>", "VG OLD NEW, or VG/OLD NEW")).action(
    async (names: string[], flags: CommonFlags) => {
      const { group, from, to } = namesOf(names);
      const { changeGroup } = await import("../../../stack/lvm/change.js");
      const context = lvmContext("lvrename");
      printChange(
        flags,
        await changeGroup(context, group, changeOptions(context, flags), (found) =>
          planRenameVolume(found.group, from, to),
        ),
      );
    },
  );
}

function namesOf(names: readonly string[]): { group: string; from: string; to: string } {
  const [first = "", second = "", third] = names;
  if (names.length < 2 || names.length > 3) throw usage("Old and new logical volume names required");
  const path = third === undefined ? parseVolumeName(first) : null;
  const group = path?.group ?? parseGroupName(first);
  const inGroup = (text: string) => {
    if (!text.replace(/^(\/dev\/|lvm:)/, "").includes("/")) return text;
    const full = parseVolumeName(text);
    if (full.group !== group)
      throw usage(`Logical volume names must have the same volume group ("${group}" or "${full.group}")`);
    return full.volume;
  };
  return { group, from: path?.volume ?? inGroup(second), to: inGroup(third ?? second) };
}
