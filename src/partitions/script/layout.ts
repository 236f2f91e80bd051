/** What a script, a JSON document or a short layout asks for: one noun for the three of them. */

export interface LayoutLine {
  readonly number?: number;
  /** Bytes. */
  readonly start?: number;
  /** Bytes; default: all that is left. */
  readonly size?: number | "all";
  readonly type?: string;
  readonly name?: string;
  readonly uuid?: string;
  readonly attributes?: bigint;
  readonly bootable?: boolean;
}

export interface TableLayout {
  /** `gpt` or `dos`; default: the table that the disk has. */
  readonly label?: string | undefined;
  readonly id?: string | undefined;
  readonly firstLba?: number | undefined;
  readonly lastLba?: number | undefined;
  readonly entryCount?: number | undefined;
  readonly sectorSize?: number | undefined;
  readonly lines: readonly LayoutLine[];
}
