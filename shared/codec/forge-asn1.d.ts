// Only the ASN.1 reader of node-forge is loaded, not its index, which brings RSA, TLS and PKCS#12 with it.
declare module 'node-forge/lib/asn1.js' {
  export interface ForgeAsn1 {
    /** 0x00 universal, 0x40 application, 0x80 context-specific, 0xc0 private. */
    readonly tagClass: number;
    readonly type: number;
    readonly constructed: boolean;
    /** Children if constructed, otherwise one character per content octet. */
    readonly value: string | readonly ForgeAsn1[];
  }
  const asn1: {
    fromDer(
      bytes: string,
      options: { strict: boolean; parseAllBytes: boolean; decodeBitStrings: boolean; maxDepth: number },
    ): ForgeAsn1;
  };
  export default asn1;
}
