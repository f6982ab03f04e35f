//! What the door costs: a whole `authorize`, its parts, and with few and with many roles the same for a certificate that comes
//! again, and a decision, remembered and not.
//!
//! `reference` is a fixed piece of work of the same run, by which `make bench` compares machines and days.

use std::hint::black_box;

use auth::testing::bench::Door;
use aws_lc_rs::digest::{SHA256, digest};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("auth");
    let page = vec![7_u8; 64 * 1024];
    group.bench_function("reference", |b| b.iter(|| digest(&SHA256, black_box(&page))));

    let door = Door::with_roles(10);
    group.bench_function("certificate-to-identity", |b| b.iter(|| door.identity()));
    group.bench_function("receipt", |b| b.iter(|| assert!(door.receipt())));
    group.bench_function("authorize-whole", |b| {
        b.iter_batched(|| door.forget(), |()| assert!(door.authorize()), BatchSize::PerIteration);
    });
    for roles in [1, 10, 100, 1000] {
        let door = Door::with_roles(roles);
        assert!(door.authorize());
        group.bench_function(format!("authorize-again-{roles}-roles"), |b| {
            b.iter(|| assert!(door.authorize()))
        });
        group.bench_function(format!("decide-cached-{roles}-roles"), |b| b.iter(|| assert!(door.decide())));
        group.bench_function(format!("decide-cold-{roles}-roles"), |b| {
            b.iter_batched(|| door.change_policy(), |()| assert!(door.decide()), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
