/** Object identifiers of the one CMS structure that KMS sends. */
export const OID = {
  /** RFC 5652 6.1 */
  ENVELOPED_DATA: '1.2.840.113549.1.7.3',
  /** RFC 5652 4 */
  DATA: '1.2.840.113549.1.7.1',
  /** RFC 4055 4.1 */
  RSAES_OAEP: '1.2.840.113549.1.1.7',
  /** RFC 4055 2.2 */
  MGF1: '1.2.840.113549.1.1.8',
  /** RFC 4055 4.1 */
  P_SPECIFIED: '1.2.840.113549.1.1.9',
  /** RFC 4055 2.1 */
  SHA256: '2.16.840.1.101.3.4.2.1',
  /** RFC 3565 4.1 */
  AES256_CBC: '2.16.840.1.101.3.4.1.42',
} as const;
