/**
 * What LVM2's names of RAID types mean to the kernel: level and layout as superblocks have them (Linux drivers/md/dm-raid.c,
 * raid5.h, raid10.c), and where the chunks of a row lie.
 *
 *   raid5_ls, 4 images       raid6_zr, 5 images           "rows" of chunks, numbers are those of the volume
 *   row 0   0  1  2  P       row 0   P  Q  0  1  2
 *   row 1   4  5  P  3       row 1   3  P  Q  4  5
 */

export interface RaidLevel {
  readonly level: 1 | 5 | 6 | 10;
  readonly layout: number;
  /** Images of each row that hold no data. */
  readonly parity: 0 | 1 | 2;
}

const PARITY_0 = 4;
const PARITY_N = 5;

const LEVELS: Readonly<Record<string, RaidLevel>> = {
  raid1: { level: 1, layout: 0, parity: 0 },
  raid10: { level: 10, layout: 0x102, parity: 0 }, // two near copies, one far one
  raid10_near: { level: 10, layout: 0x102, parity: 0 },
  raid4: { level: 5, layout: PARITY_0, parity: 1 },
  raid5: { level: 5, layout: 2, parity: 1 },
  raid5_la: { level: 5, layout: 0, parity: 1 },
  raid5_ra: { level: 5, layout: 1, parity: 1 },
  raid5_ls: { level: 5, layout: 2, parity: 1 },
  raid5_rs: { level: 5, layout: 3, parity: 1 },
  raid5_n: { level: 5, layout: PARITY_N, parity: 1 },
  raid6: { level: 6, layout: 8, parity: 2 },
  raid6_zr: { level: 6, layout: 8, parity: 2 },
  raid6_nr: { level: 6, layout: 9, parity: 2 },
  raid6_nc: { level: 6, layout: 10, parity: 2 },
  raid6_n_6: { level: 6, layout: PARITY_N, parity: 2 },
  raid6_la_6: { level: 6, layout: 16, parity: 2 },
  raid6_ra_6: { level: 6, layout: 17, parity: 2 },
  raid6_ls_6: { level: 6, layout: 18, parity: 2 },
  raid6_rs_6: { level: 6, layout: 19, parity: 2 },
};

export const RAID_TYPES: readonly string[] = Object.keys(LEVELS);

/** Undefined for types without legs that repeat each other, raid0 among them. */
export function raidLevel(type: string): RaidLevel | undefined {
  return LEVELS[type];
}

/** Which image holds what in one row of chunks. */
export interface RowPlan {
  /** The image of each data chunk, in the order of the volume. */
  readonly data: readonly number[];
  readonly p: number;
  /** Null with one parity. */
  readonly q: number | null;
  /** The power of g that each data chunk has in Q, in the order of `data`. */
  readonly exponents: readonly number[];
}

/** Rows repeat after this many. */
export function rowPeriod(images: number): number {
  return images * (images - 1);
}

/** Row `row` of a volume of `images` images with one or two parities. */
export function planRow({ layout, parity }: RaidLevel, images: number, row: number): RowPlan {
  return parity === 1 ? planSingle(layout, images, row) : planDouble(layout, images, row);
}

function planSingle(layout: number, images: number, row: number): RowPlan {
  const turn = row % images;
  const p = [images - 1 - turn, turn, images - 1 - turn, turn, 0, images - 1][layout]!;
  const symmetric = layout === 2 || layout === 3;
  return { ...place(images, [p], symmetric ? p + 1 : 0), p, q: null };
}

function planDouble(layout: number, images: number, row: number): RowPlan {
  const last = images - 1;
  if (layout >= 16) {
    // As RAID 5 over all images but the last, which holds Q; powers are counted in the order of images, P left out.
    const { p, data } = planSingle(layout - 16, last, row);
    return { data, p, q: last, exponents: data.map((image) => (image > p ? image - 1 : image)) };
  }
  if (layout === PARITY_N) return { ...place(images, [last - 1, last], 0), p: last - 1, q: last };
  const p = layout === 8 ? row % images : layout === 9 ? last - ((row + 1) % images) : last - (row % images);
  const q = layout === 10 ? (p + last) % images : (p + 1) % images;
  const { data } = place(images, [p, q], layout === 10 ? p + 1 : 0);
  // These three count the powers of g by image, P and Q included, as the DDF standard does.
  return { data, p, q, exponents: data };
}

/** Data chunks on all images but those of parity, beginning at image `first`. */
function place(images: number, taken: readonly number[], first: number): Pick<RowPlan, "data" | "exponents"> {
  const data = Array.from({ length: images }, (_, i) => (first + i) % images).filter((image) => !taken.includes(image));
  return { data, exponents: data.map((_, i) => i) };
}
