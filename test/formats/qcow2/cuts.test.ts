/** qcow2 after a cut of the power at any write; all options: cuts.long.test.ts. */
import { describeCuts } from "./cuts.js";

describeCuts(["cluster_size=4k"], 24);
