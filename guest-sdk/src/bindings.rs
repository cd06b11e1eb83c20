//! Generates the Rust side of `../wit`.
//! Owns the one copy of its types, and one export macro for each world.
//! Never holds code written by hand.
#![expect(clippy::pedantic, reason = "generated")]

/// What handlers may call, and the types that all interfaces share.
pub mod base {
    wit_bindgen::generate!({
        path: "../wit",
        world: "imports",
        generate_unused_types: true,
        additional_derives: [PartialEq],
    });
}

/// Exports `stages`.
pub mod processor {
    wit_bindgen::generate!({
        path: "../wit",
        world: "processor",
        pub_export_macro: true,
        export_macro_name: "export_processor",
        with: {
            "gristmill:handler/types@0.1.0": crate::bindings::base::gristmill::handler::types,
            "gristmill:handler/host@0.1.0": crate::bindings::base::gristmill::handler::host,
            "gristmill:handler/secrets@0.1.0": crate::bindings::base::gristmill::handler::secrets,
        },
    });
}

/// Exports `discovery`.
pub mod discoverer {
    wit_bindgen::generate!({
        path: "../wit",
        world: "discoverer",
        pub_export_macro: true,
        export_macro_name: "export_discoverer",
        with: {
            "gristmill:handler/types@0.1.0": crate::bindings::base::gristmill::handler::types,
            "gristmill:handler/host@0.1.0": crate::bindings::base::gristmill::handler::host,
            "gristmill:handler/secrets@0.1.0": crate::bindings::base::gristmill::handler::secrets,
        },
    });
}

/// Exports `merging`.
pub mod merger {
    wit_bindgen::generate!({
        path: "../wit",
        world: "merger",
        pub_export_macro: true,
        export_macro_name: "export_merger",
        with: {
            "gristmill:handler/types@0.1.0": crate::bindings::base::gristmill::handler::types,
            "gristmill:handler/host@0.1.0": crate::bindings::base::gristmill::handler::host,
            "gristmill:handler/secrets@0.1.0": crate::bindings::base::gristmill::handler::secrets,
        },
    });
}
