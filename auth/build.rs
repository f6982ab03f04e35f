//! Compiles `proto/auth.proto` without a system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/auth.proto");
    let descriptors = protox::compile(["proto/auth.proto"], ["proto"])?;
    // For the tests that walk every method.
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    // Ordered maps: a request has one encoding, which a touch can be for (see `api::touch`). Audit events by the thousand are
    // parts of what was received, not copies.
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".touchstone.auth.v1.AuditRecord")
        .bytes(".touchstone.auth.v1.EmitAuditRequest")
        .compile_fds(descriptors)?;
    Ok(())
}
