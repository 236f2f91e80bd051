/** A domain with the disks of its configuration: all of them, or no domain. */
import { DiskError } from "../errors.js";
import type { CreateDomainRequest, DomainInfo } from "./api-types.js";
import type { DomainOptions } from "./domains.js";
import type { Host } from "./host.js";

/** The disks are attached one after the other, in their order. On failure the domain is gone and the error says which disk it was. */
export async function createConfiguredDomain(
  host: Host,
  request: CreateDomainRequest,
  options: Pick<DomainOptions, "memory" | "restored"> = {},
): Promise<DomainInfo> {
  const { name, config, disks = [] } = request;
  const domain = await host.createDomain(name, { ...options, ...(config ? { config } : {}) });
  const domid = String(domain.domid);
  for (const [i, disk] of disks.entries()) {
    try {
      await host.attach({ ...disk, domain: domid });
    } catch (error) {
      const outcome = await host.destroyDomain(domid).then(
        () => "everything is taken back",
        (second: Error) => `taking it back failed as well: ${second.message}`,
      );
      throw diskFailure(`Cannot create domain ${name}: disk ${i + 1} of ${disks.length}`, i + 1, error, outcome);
    }
  }
  return disks.length === 0 ? domain : host.domain(domid);
}

function diskFailure(what: string, disk: number, error: unknown, outcome: string): DiskError {
  const reason = (error as Error).message.replace(/^Cannot /, "cannot ");
  const { code, details } = error instanceof DiskError ? error : ({ code: "IO", details: {} } as const);
  return new DiskError(code, `${what}: ${reason}; ${outcome}`, { details: { ...details, disk }, cause: error });
}
