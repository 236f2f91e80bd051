/** LVM2's configuration text as a tree: assignments and sections in their order. Metadata, backups and lvm.conf have this form. */

export type Scalar = number | bigint | string | Float;
export type ConfigValue = Scalar | readonly Scalar[];

/** A number with a point, as it was written: metadata has none, but what is unknown is kept. */
export interface Float {
  readonly float: string;
}

export interface Assign {
  readonly kind: "assign";
  readonly key: string;
  readonly value: ConfigValue;
}

export interface Section {
  readonly kind: "section";
  readonly key: string;
  readonly entries: readonly Entry[];
}

export type Entry = Assign | Section;

export function assign(key: string, value: ConfigValue): Assign {
  return { kind: "assign", key, value };
}

export function section(key: string, entries: readonly Entry[]): Section {
  return { kind: "section", key, entries };
}
