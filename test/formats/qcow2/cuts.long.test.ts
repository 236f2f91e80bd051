/** qcow2 after a cut of the power at any write. */
import { describeCuts } from "./cuts.js";

describeCuts(
  [
    "cluster_size=512",
    "cluster_size=4k",
    "cluster_size=16k,extended_l2=on",
    "compat=0.10,cluster_size=1k",
    "cluster_size=512,refcount_bits=64",
  ],
  40,
);
