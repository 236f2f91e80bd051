/**
 * Every type of segment that LVM2's metadata may name: how its areas are written in the text, and what of it this version does.
 * A type that is not listed makes its group read-only, as in LVM2; its fields are kept.
 */

export interface SegmentType {
  readonly name: string;
  /** The key of the list of areas, and how it is filled. */
  readonly areas:
    | { readonly key: "stripes" | "mirrors"; readonly form: "name and extent"; readonly count: string }
    | { readonly key: "raids"; readonly form: "metadata and image"; readonly count: string }
    | { readonly key: "raid0_lvs"; readonly form: "image"; readonly count: string }
    | null;
  /** For `lv_layout`. */
  readonly layout: string;
  /** `create`: volumes of this type can be made and resized. `open`: read and written. `show`: listed only. */
  readonly support: "create" | "open" | "show";
  /** The letter of `lv_attr` for a volume of this type; null: the plain one. */
  readonly attribute: string | null;
  /** The letter of `lv_attr` for the target. */
  readonly target: string;
}

const raid = (name: string): SegmentType => ({
  name,
  areas: { key: "raids", form: "metadata and image", count: "device_count" },
  layout: `raid,${name}`,
  support: "create",
  attribute: "r",
  target: "r",
});

const virtual = (name: string, support: SegmentType["support"], attribute: string | null, target: string) => ({
  name,
  areas: null,
  layout: name,
  support,
  attribute,
  target,
});

const STRIPED: SegmentType = {
  name: "striped",
  areas: { key: "stripes", form: "name and extent", count: "stripe_count" },
  layout: "striped",
  support: "create",
  attribute: null,
  target: "-",
};

const TYPES: readonly SegmentType[] = [
  STRIPED,
  { ...virtual("error", "create", null, "v"), layout: "unknown" }, // LVM2 has no word for them
  { ...virtual("zero", "create", null, "v"), layout: "unknown" },
  {
    name: "mirror",
    areas: { key: "mirrors", form: "name and extent", count: "mirror_count" },
    layout: "mirror",
    support: "create",
    attribute: "m",
    target: "m",
  },
  {
    name: "raid0",
    areas: { key: "raid0_lvs", form: "image", count: "stripe_count" },
    layout: "raid,raid0",
    support: "open",
    attribute: "r",
    target: "r",
  },
  {
    ...raid("raid0_meta"),
    areas: { key: "raids", form: "metadata and image", count: "stripe_count" },
    support: "open",
  },
  ...["raid1", "raid10", "raid10_near", "raid4"].map(raid),
  ...["raid5", "raid5_n", "raid5_la", "raid5_ls", "raid5_ra", "raid5_rs"].map(raid),
  ...["raid6", "raid6_zr", "raid6_nr", "raid6_nc", "raid6_n_6"].map(raid),
  ...["raid6_la_6", "raid6_ls_6", "raid6_ra_6", "raid6_rs_6"].map(raid),
  virtual("snapshot", "show", null, "s"),
  { ...virtual("thin-pool", "show", "t", "t"), layout: "thin,pool" },
  { ...virtual("thin", "show", "V", "t"), layout: "thin,sparse" },
  { ...virtual("cache-pool", "show", "C", "C"), layout: "cache,pool" },
  virtual("cache", "show", "C", "C"),
  virtual("writecache", "show", "C", "C"),
  virtual("integrity", "show", "g", "-"),
  { ...virtual("vdo-pool", "show", "d", "v"), layout: "vdo,pool" },
  virtual("vdo", "show", "v", "v"),
];

const BY_NAME = new Map(TYPES.map((type) => [type.name, type]));

/** Undefined for a type that LVM2 2.03.16 does not have either. */
export function segmentType(name: string): SegmentType | undefined {
  return BY_NAME.get(name);
}

/** Keys whose value names another volume of the group: followed when one is renamed or removed. */
export const VOLUME_KEYS: ReadonlySet<string> = new Set([
  "metadata",
  "pool",
  "thin_pool",
  "origin",
  "external_origin",
  "merge",
  "cow_store",
  "merging_store",
  "mirror_log",
  "cache_pool",
  "data",
  "writecache",
  "integrity_meta_dev",
  "meta_dev",
  "vdo_pool",
  "create",
]);
