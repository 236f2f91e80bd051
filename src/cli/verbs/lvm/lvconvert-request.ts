/** What `lvconvert` is asked for, whatever it converts. */
import type { CommonFlags } from "./options.js";

export interface LvconvertFlags extends CommonFlags {
  readonly merge?: boolean;
  readonly mergesnapshot?: boolean;
  readonly background?: boolean;
  readonly mirrors?: { readonly sign: "" | "+" | "-"; readonly count: number };
  readonly type?: string;
  readonly repair?: boolean;
  readonly splitmirrors?: number;
  readonly name?: string;
  readonly mirrorlog?: "core" | "disk";
  readonly regionsize?: number;
}
