/** The prebuilt llama.cpp of one platform brings no types of its own. */
declare module '@node-llama-cpp/linux-x64' {
  export function getBinsDir(): { readonly binsDir: string };
}
declare module '@node-llama-cpp/linux-arm64' {
  export function getBinsDir(): { readonly binsDir: string };
}
