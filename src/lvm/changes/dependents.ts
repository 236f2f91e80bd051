/** Which volumes hang on which. */
import { volumesBelow } from "../check-group.js";
import type { LogicalVolume, VolumeGroup } from "../metadata.js";

/** The volumes whose segments name this one. */
export function volumesAbove({ logicalVolumes }: VolumeGroup, name: string): LogicalVolume[] {
  return logicalVolumes.filter((volume) => volumesBelow(volume).includes(name));
}

/** A volume and all that it is made of, itself first; each once. */
export function volumeTree(group: VolumeGroup, name: string): string[] {
  const byName = new Map(group.logicalVolumes.map((volume) => [volume.name, volume]));
  const found = new Set([name]);
  for (const next of found) for (const below of areasBelow(byName.get(next))) if (byName.has(below)) found.add(below);
  return [...found];
}

const PART_KEYS = new Set(["mirror_log", "metadata", "pool"]);

/** Parts only: not an origin or a pool, which stands by itself. */
function areasBelow(volume: LogicalVolume | undefined): string[] {
  const parts = (volume?.segments ?? []).flatMap((segment) => [...segment.areas, ...segment.metadataAreas]);
  const logs = (volume?.segments ?? []).flatMap(({ fields }) =>
    fields.flatMap((field) =>
      field.kind === "assign" && PART_KEYS.has(field.key) && typeof field.value === "string" ? [field.value] : [],
    ),
  );
  return [...parts.flatMap((area) => (area.kind === "lv" ? [area.lv] : [])), ...logs];
}
