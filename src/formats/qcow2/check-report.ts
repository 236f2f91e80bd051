/** What a check finds, counted as qemu-img counts, the first of it in words. */
import { type CheckReport, MAX_PROBLEMS } from "../extensions.js";

export class Findings {
  corruptions = 0;
  leaks = 0;
  corruptionsFixed = 0;
  leaksFixed = 0;
  checkErrors = 0;
  allocated = 0;
  fragmented = 0;
  compressed = 0;
  /** One more than the last cluster that is counted or referred to. */
  endCluster = 0;
  readonly problems: string[] = [];

  corruption(text: string, fixed = false): void {
    if (fixed) this.corruptionsFixed++;
    else this.corruptions++;
    this.#say(text, fixed);
  }

  leak(text: string, fixed: boolean): void {
    if (fixed) this.leaksFixed++;
    else this.leaks++;
    this.#say(text, fixed);
  }

  #say(text: string, fixed: boolean): void {
    if (this.problems.length < MAX_PROBLEMS) this.problems.push(fixed ? `${text} (repaired)` : text);
  }

  report(clusterSize: number, diskSize: number): CheckReport {
    return {
      checkErrors: this.checkErrors,
      corruptions: this.corruptions,
      leaks: this.leaks,
      corruptionsFixed: this.corruptionsFixed,
      leaksFixed: this.leaksFixed,
      imageEndOffset: this.endCluster * clusterSize,
      totalClusters: Math.ceil(diskSize / clusterSize),
      allocatedClusters: this.allocated,
      fragmentedClusters: this.fragmented,
      compressedClusters: this.compressed,
      problems: this.problems,
    };
  }
}
