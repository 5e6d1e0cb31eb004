import { BlockList, isIPv4, isIPv6 } from 'node:net';

/**
 * Addresses that a name on the allow-list must never lead to: this host, its link and its metadata service.
 * Private ranges stay reachable, because VPC endpoints of KMS live there.
 * Sources: RFC 6890 (special-purpose registries), AWS EC2 User Guide "Instance metadata" (169.254.169.254,
 * fd00:ec2::254), RFC 6052 (64:ff9b::/96 carries an IPv4 address), RFC 3056 (2002::/16 likewise).
 */
// Two lists: one list would apply the rule for ::ffff:0:0/96 to every IPv4 address.
const FORBIDDEN_IPV4 = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['192.0.0.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const) {
  FORBIDDEN_IPV4.addSubnet(network, prefix, 'ipv4');
}
const FORBIDDEN_IPV6 = new BlockList();
for (const [network, prefix] of [
  ['::', 96],
  ['::ffff:0:0', 96],
  ['64:ff9b:1::', 48],
  ['100::', 64],
  ['2001::', 32],
  ['2002::', 16],
  ['fe80::', 10],
  ['fec0::', 10],
  ['fd00:ec2::', 32],
  ['ff00::', 8],
] as const) {
  FORBIDDEN_IPV6.addSubnet(network, prefix, 'ipv6');
}
const NAT64 = new BlockList();
NAT64.addSubnet('64:ff9b::', 96, 'ipv6');

/** True for an address that only an operator's override may name. What is no address at all is forbidden too. */
export function isForbiddenAddress(address: string): boolean {
  if (isIPv4(address)) return FORBIDDEN_IPV4.check(address, 'ipv4');
  if (!isIPv6(address) || address.includes('%')) return true;
  if (NAT64.check(address, 'ipv6')) return isForbiddenAddress(embeddedIpv4(address));
  return FORBIDDEN_IPV6.check(address, 'ipv6');
}

/** The last 32 bits of an IPv6 address, in dotted form. */
function embeddedIpv4(address: string): string {
  // The URL parser writes every IPv6 address in its one canonical form, without dots.
  const groups = new URL(`http://[${address}]/`).hostname.slice(1, -1).split('::');
  const tail = (groups.at(-1) ?? '').split(':').filter((group) => group !== '');
  const [high, low] = ['0', '0', ...tail].slice(-2).map((group) => Number.parseInt(group, 16)) as [
    number,
    number,
  ];
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
}
