/** Messages to a thin pool as they stand in its segment: `message1 { create = "t1" }`, `message2 { delete = 3 }`. */
import type { Entry } from "../config/tree.js";
import type { Segment } from "../metadata.js";

export type PoolMessage =
  /** The volume's name. */
  { readonly kind: "create"; readonly volume: string } | { readonly kind: "delete"; readonly deviceId: number };

export function poolMessages({ fields }: Segment): PoolMessage[] {
  return fields.flatMap((field) => (isMessage(field) ? field.entries.flatMap(messageOf) : []));
}

export function isMessage(field: Entry): field is Entry & { kind: "section" } {
  return field.kind === "section" && /^message\d+$/.test(field.key);
}

function messageOf(entry: Entry): PoolMessage[] {
  if (entry.kind !== "assign") return [];
  const { key, value } = entry;
  if (key === "create" && typeof value === "string") return [{ kind: "create", volume: value }];
  if (key === "delete" && typeof value === "number") return [{ kind: "delete", deviceId: value }];
  return [];
}
